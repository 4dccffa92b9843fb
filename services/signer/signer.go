// Package signer signs what policy admitted, and makes one job for each
// destination.
//
// Consumes ADMITTED (durables "signer-alert" and "signer-normal"). Produces
// jobs on DELIVER: a reference to the content and the header fields to put
// before it; and the ledger's signed record.
//
// Guarantees: nothing leaves unsigned. A missing or unreadable key delays the
// message, it neither loses nor bounces it. The content is read once and
// never rewritten, so that a signature already on it survives byte for byte: what
// policy adds to the header goes before it, and is read with it.
// Running twice stores each job once.
//
// The signatures are the relay domain's, RSA and Ed25519 side by side (RFC
// 6376, RFC 8463), relaxed/relaxed, without l=. Fields that could be added to
// change what a reader sees are oversigned: named once more than they occur,
// up to five times. A body is read and hashed once for all keys.
//
// This is the only service that reads private keys. It needs no network but
// the bus.
package signer

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// Service is the signer for a process to run.
var Service = service.Service{Name: "signer", Run: Run}

// Durable is the name of the consumer of a lane.
func Durable(lane mail.Lane) string { return "signer-" + string(lane) }

// concurrency is per lane: most of its time a handler waits for two stores, and
// those that wait together share a sync of LEDGER. Each holds a chunk of content
// or two.
const concurrency = 64

// publishers bounds how many jobs of one message are stored at once.
const publishers = 16

// Run signs until ctx ends.
func Run(ctx context.Context, env *service.Env) error {
	keys, err := OpenKeys(env.Config, env.Log)
	if err != nil {
		return err
	}
	s := &Signer{bus: env.Bus, keys: keys, metrics: newMetrics(env.Metrics)}
	group, ctx := errgroup.WithContext(ctx)
	lanes := []mail.Lane{mail.LaneAlert, mail.LaneNormal}
	begun := service.Last(len(lanes), env.Ready)
	for _, lane := range lanes {
		group.Go(func() error {
			return env.Bus.Work(ctx, queue.Source{
				Stream: queue.StreamAdmitted, Durable: Durable(lane), Filter: "admitted." + string(lane) + ".*",
				Concurrency: concurrency, Begun: begun,
			}, service.Grace, s.Handle)
		})
	}
	return group.Wait()
}

// Signer signs admitted messages.
type Signer struct {
	bus     *queue.Bus
	keys    *Keys
	metrics *metrics
}

// Handle signs one admitted message and publishes its jobs.
func (s *Signer) Handle(ctx context.Context, m queue.Message) error {
	a, err := event.Decode[event.Admitted](m.Data)
	if err != nil {
		return queue.Poison(err)
	}
	if len(a.Env.Recipients) == 0 {
		return nil // policy admitted nobody
	}
	if err := s.bus.Intake.GiveWay(ctx, "signer", a.Class.Lane(), m.Stored); err != nil {
		return err
	}
	keys, err := s.keys.Active()
	if err != nil {
		s.metrics.errors.Inc()
		return queue.Later(30*time.Second, err.Error())
	}
	content, err := s.bus.OpenFirst(ctx, a.QueueID, a.Content)
	if err != nil {
		return fmt.Errorf("sign %s: %w", a.QueueID, err)
	}
	defer content.Close()
	started := time.Now()
	fields, err := Sign(io.MultiReader(strings.NewReader(a.Prepend), content), keys)
	if err != nil {
		s.metrics.errors.Inc()
		return fmt.Errorf("sign %s: %w", a.QueueID, err)
	}
	s.metrics.seconds.Observe(time.Since(started).Seconds())
	r := event.Record{Stage: event.StageSigner, Outcome: event.Signed, QueueID: a.QueueID}
	for _, k := range keys {
		r.Signatures = append(r.Signatures, k.String())
	}
	// The record comes first, so that no delivery stands before it in the books.
	if err := s.bus.Record(ctx, "", r); err != nil {
		return err
	}
	return s.publish(ctx, jobs(a, fields+a.Prepend))
}

func (s *Signer) publish(ctx context.Context, jobs []event.Job) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(publishers)
	for i := range jobs {
		j := &jobs[i]
		group.Go(func() error {
			subject := queue.ReadySubject(j.Class.Lane(), queue.PartitionOf(j.Destination))
			if _, err := s.bus.Publish(ctx, subject, identity(j), event.Encode(j)); err != nil {
				return fmt.Errorf("publish job %s: %w", j.ID, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// identity names a job before its first attempt. Recovery that drives it again
// does so under a number of its own.
func identity(j *event.Job) string {
	id := j.ID + "/0"
	if j.Drive > 0 {
		id += "/drive-" + strconv.Itoa(j.Drive)
	}
	return id
}

// jobs makes one job for each destination, in the order in which the
// destinations first appear: the same message gives the same jobs.
func jobs(a *event.Admitted, prepend string) []event.Job {
	index := map[string]int{}
	var out []event.Job
	for _, rcpt := range a.Env.Recipients {
		destination := rcpt.Address.Domain
		at, ok := index[destination]
		if !ok {
			at = len(out)
			index[destination] = at
			env := a.Env
			env.Recipients = nil
			out = append(out, event.Job{
				Schema: event.Schema, ID: string(a.QueueID) + "-" + strconv.Itoa(a.First+at), QueueID: a.QueueID,
				AcceptedAt: a.AcceptedAt, Class: a.Class, Destination: destination, Env: env,
				MessageID: a.MessageID, SubmissionID: a.SubmissionID, Content: a.Content, Prepend: prepend,
				Device: a.Device, Owner: a.Owner, Report: a.ReportOf, PHI: a.PHI, Drive: a.Drive, Origin: a.Origin, Released: a.Released,
			})
		}
		out[at].Env.Recipients = append(out[at].Env.Recipients, rcpt)
	}
	return out
}
