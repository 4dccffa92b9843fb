// Package policy decides again, with authority, what ingress let in.
//
// Consumes MAIL (durable "policy" on every shard), and the decisions in HELD
// (durable "policy"); the buckets "holds" and "budgets". Produces ADMITTED for the recipients it admits, the
// ledger's accepted record with facts, registry revision and verdict, REPORT for
// recipients it refuses after all, and HELD with the ledger's held record for
// those it holds (held.go); DELIVER for jobs that people held and released.
// What the hourly limits of a device hold has its turn by itself (turns.go): of
// several instances one leads.
//
// Guarantees: the accepted record is stored before MAIL is acknowledged, so
// that every message in MAIL is in the books or still to be read. Running
// twice for one message stores each of these once, and the decision of the
// first run holds: what it admitted is not refused by a second one that finds
// the registry changed. A refusal here happens only when the registry or the
// rules changed after the 250; its sender, who passed authorization then, gets
// a report.
//
// Failures: an unreadable event stays in MAIL and is logged; a store that does
// not answer delays. Policy never loses and never bounces for its own trouble.
// What ingress admitted by a newer registry than is known here waits for it, a
// minute at most. A decision that must wait waits an hour at most: the facts are
// recorded and will not change, and ingress admitted the mail under them. What
// content scanning (package scan) could not look into by then is held. Mail of a
// sender whom people contained before it was decided is held, and not refused.
// What a limit holds for longer than its lifetime goes back with a report (5.4.7);
// what people hold waits for them for ever.
//
// Limits: some 4,000 messages may wait to be decided; with more, all mail waits
// with them. So it is with scan.when_down: later, and a scanner that is down. The
// leader remembers each message that a limit holds, in some 100 octets. A message
// with more recipients than its device may send in an hour passes all the same,
// as all of one hour's. A host or an identity that is no device is told to come
// again (451) where it is over a limit: nothing of it is held.
package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/services/policy/scan"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// Service is policy for a process to run.
var Service = service.Service{Name: "policy", Run: Run}

// Durable is the name of the consumer on every MAIL shard.
const Durable = "policy"

// concurrency is per shard: each handler waits for two stores, so that many
// share the time of a sync.
const concurrency = 32

// Run decides until ctx ends.
func Run(ctx context.Context, env *service.Env) error {
	reg, err := store.Open(ctx, env.Bus, env.Config.FileEntries())
	if err != nil {
		return err
	}
	scanners, err := scan.New(env.Config.Scan, env.Config.Relay.Hostname)
	if err != nil {
		return err
	}
	p := &Policy{bus: env.Bus, rules: env.Config.Rules(), registry: reg.Snapshot, metrics: newMetrics(env.Metrics), scanners: scanners}
	group, ctx := errgroup.WithContext(ctx)
	w, err := openTurns(ctx, p, env)
	if err != nil {
		return err
	}
	jobs, stop, err := openJobs(env, reg)
	if err != nil {
		return err
	}
	defer stop()
	group.Go(func() error {
		return reg.Follow(ctx, func() {
			for _, j := range jobs {
				group.Go(func() error { return j.Run(ctx) })
			}
			begun := service.Last(queue.Shards+1, env.Ready)
			group.Go(func() error { return p.carryOutDecisions(ctx, begun) })
			group.Go(func() error { w.budgets.Run(ctx); return nil })
			group.Go(func() error { return p.bus.Lead(ctx, "held", env.Instance, w.watch) })
			for shard := range queue.Shards {
				group.Go(func() error {
					return env.Bus.Work(ctx, queue.Source{
						Stream: queue.MailStream(shard), Durable: Durable, Concurrency: concurrency, Begun: begun,
					}, service.Grace, p.Handle)
				})
			}
		})
	})
	return group.Wait()
}

// Policy decides over accepted messages.
type Policy struct {
	bus       *queue.Bus
	rules     *authz.Rules
	registry  func() *registry.Snapshot
	metrics   *metrics
	scanners  *scan.Scanners  // nil for none
	holdings  *queue.Holdings // nil for none
	untouched untouched
	// searching is held by who looks for a decision of long ago: that takes memory.
	searching sync.Mutex
}

// Handle decides about one message of MAIL.
func (p *Policy) Handle(ctx context.Context, m queue.Message) error {
	if queue.IsCanary(m.Subject) {
		return nil
	}
	a, _, err := queue.DecodeMail(m.Data)
	if err != nil {
		return queue.Poison(err)
	}
	untouched := p.untouched.begin(a.QueueID, m.Delivered)
	if err := p.bus.Intake.GiveWay(ctx, "policy", a.Class.Lane(), m.Stored); err != nil {
		return err
	}
	if !untouched {
		// To hold it is the last thing that a run does.
		if was, err := p.bus.WasHeld(ctx, a.QueueID, ""); err != nil || was {
			return err
		}
	}
	if behind := a.Revision > p.registry().Revision; behind && time.Since(a.At) < catchUp {
		return queue.Later(catchUpPause, "the registry that ingress decided by has not come here yet")
	}
	ref := a.Ref(queue.MailStream(queue.ShardOf(a.QueueID)), m.Seq)
	d, err := p.decide(ctx, a, ref)
	if err != nil {
		return err
	}
	if err := p.bus.Record(ctx, "", acceptedRecord(a, ref, d)); err != nil {
		return err
	}
	e := admitted(a, ref, d)
	p.untouched.end(a.QueueID)
	decided, err := p.commit(ctx, e, m, untouched)
	if err != nil {
		return fmt.Errorf("admit %s: %w", a.QueueID, err)
	}
	if decided == e {
		p.metrics.passed(d.verdict.Observed)
	}
	if err := p.report(ctx, a, decided); err != nil {
		return err
	}
	return p.hold(ctx, a, decided)
}

// Policy reads the registry by itself, and may be behind ingress: what it does not
// know yet it would refuse after the 250. It waits until it has read as far,
// unless the registry went back, as from a backup.
const (
	catchUp      = time.Minute
	catchUpPause = 500 * time.Millisecond
)

// patience is how long a decision may wait for what will let it be made.
const patience = time.Hour

// decide decides, once content scanning has said its word about a message that
// somebody may get. Our own reports are not scanned: nobody would learn what they
// tell.
func (p *Policy) decide(ctx context.Context, a *event.Accepted, ref event.ContentRef) (decision, error) {
	d := decide(p.rules, p.registry(), a)
	if why := p.holdings.OfMessage(&event.Admitted{Device: a.Device, Origin: a.Origin(), AcceptedAt: a.At, ReportOf: a.ReportOf}); why != nil {
		d.contain(why, a)
		return d, nil
	}
	over := time.Since(a.At) >= patience
	if p.scanners != nil && a.ReportOf == "" && len(d.refused) < len(a.Env.Recipients) && (over || len(d.later) == 0) {
		f, err := p.scanners.Scan(ctx, a, func(ctx context.Context) (io.ReadCloser, error) { return p.bus.Open(ctx, a.QueueID, ref) })
		if err != nil {
			return d, err
		}
		p.metrics.scanned(f)
		a.Facts.Scan, a.Facts.Scanner = f.Outcome, f.Scanner
		d = decide(p.rules, p.registry(), a)
		d.fields = f.Fields
	}
	switch {
	case len(d.later) == 0:
	case over:
		d.endure(&a.Facts)
	default:
		return d, queue.Later(time.Minute, d.waiting.Reason)
	}
	return d, nil
}

// commit stores the decision. Where an earlier run did so already, that one
// holds and is returned: its recipients may be on their way.
func (p *Policy) commit(ctx context.Context, e *event.Admitted, m queue.Message, untouched bool) (*event.Admitted, error) {
	if !untouched && time.Since(m.Stored) > recognised {
		if before, err := p.longAgo(ctx, e.QueueID, m.Stored); err != nil || before != nil {
			return before, err
		}
	}
	subject := queue.AdmittedSubject(e.Class.Lane(), queue.ShardOf(e.QueueID))
	at, err := p.bus.Publish(ctx, subject, string(e.QueueID), event.Encode(e))
	if err != nil {
		return nil, err
	}
	if !at.Duplicate {
		p.metrics.decided(e)
		return e, nil
	}
	return p.earlier(ctx, at)
}

// recognised is for how long the bus is trusted to recognise what was published
// before, which is less than it does.
const recognised = time.Minute

// longAgo finds the decision that an earlier run stored about a message of that
// time, and then no policy ran until the bus had forgotten it; nil for none.
func (p *Policy) longAgo(ctx context.Context, id mail.QueueID, stored time.Time) (before *event.Admitted, err error) {
	p.searching.Lock()
	defer p.searching.Unlock()
	data, err := p.bus.Published(ctx, queue.StreamAdmitted, string(id), stored.Add(-recognised))
	if err != nil || data == nil {
		return nil, err
	}
	return event.Decode[event.Admitted](data)
}

// earlier reads the decision of an earlier run.
func (p *Policy) earlier(ctx context.Context, at queue.Position) (*event.Admitted, error) {
	stored, err := p.bus.Read(ctx, at.Stream, at.Seq)
	if errors.Is(err, queue.ErrContentGone) { // purged: all that followed from it is settled
		return &event.Admitted{}, nil
	}
	if err != nil {
		return nil, err
	}
	return event.Decode[event.Admitted](stored)
}

// report asks for a report to the sender about recipients refused after all.
func (p *Policy) report(ctx context.Context, a *event.Accepted, e *event.Admitted) error {
	if len(e.Refused) == 0 {
		return nil
	}
	if err := p.bus.Record(ctx, "", event.Record{
		Stage: event.StagePolicy, Outcome: event.Failed, QueueID: a.QueueID, Recipients: e.Refused, Reason: e.Rule,
	}); err != nil {
		return err
	}
	f := event.Failure{
		Schema: event.Schema, Kind: event.KindFailed, ID: string(a.QueueID) + "-policy", QueueID: a.QueueID,
		AcceptedAt: a.At, At: time.Now().UTC(), Env: a.Env, MessageID: a.MessageID, Content: e.Content,
		Recipients: e.Refused, Device: e.Device, Owner: e.Owner, Report: a.ReportOf, PHI: e.PHI,
	}
	if _, err := p.bus.Publish(ctx, queue.ReportSubject(f.Kind), f.ID, event.Encode(&f)); err != nil {
		return fmt.Errorf("ask for report of %s: %w", a.QueueID, err)
	}
	return nil
}

func acceptedRecord(a *event.Accepted, ref event.ContentRef, d decision) event.Record {
	r := event.Record{
		At: a.At, Stage: event.StagePolicy, Outcome: event.Entered, QueueID: a.QueueID,
		Message: &event.MessageRecord{
			AcceptedAt: a.At, MessageID: a.MessageID, SubmissionID: a.SubmissionID, ReversePath: a.Env.ReversePath,
			Size: a.Size, Class: d.verdict.Class, Device: d.device, Owner: d.owner,
			Facts: a.Facts, Verdict: d.verdict, Revision: d.revision, Content: ref, ReportOf: a.ReportOf, Quirks: a.Quirks, PHI: d.phi,
		},
	}
	for _, rcpt := range a.Env.Recipients {
		r.Recipients = append(r.Recipients, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original})
	}
	return r
}

// admitted is the decision as an event. It is published also when it admits
// nobody: it is what a second run finds.
func admitted(a *event.Accepted, ref event.ContentRef, d decision) *event.Admitted {
	e := &event.Admitted{
		Schema: event.Schema, QueueID: a.QueueID, AcceptedAt: a.At, Class: d.verdict.Class, Env: a.Env,
		MessageID: a.MessageID, SubmissionID: a.SubmissionID, Content: ref,
		Device: d.device, Owner: d.owner, ReportOf: a.ReportOf,
		Refused: d.refused, Rule: d.verdict.Rule, Prepend: d.fields, PHI: d.phi, Origin: a.Origin(),
	}
	e.Env.Recipients = d.admitted
	if len(d.held) > 0 {
		e.Hold = &event.Hold{Recipients: d.held, Rule: d.holding.Rule, Reason: d.holding.Reason}
	}
	return e
}

// decision is what policy found for one message.
type decision struct {
	// verdict is that of the recipient who fared worst: device, owner and
	// class are of the sender, and the same for all. What only observes is there
	// for every recipient.
	verdict  authz.Verdict
	revision uint64
	// device and owner are charged with it: those of the verdict, and for a
	// report those of the message that it is about.
	device, owner string
	// phi: it was health data when it was accepted, or is by the registry of now.
	phi bool

	admitted []mail.Recipient
	later    []mail.Recipient // cannot be decided now
	held     []mail.Recipient
	refused  []event.RecipientRecord
	// holding and waiting are the verdicts of those who are held, and who cannot
	// be decided.
	holding, waiting authz.Verdict
	// fields are those that scanners add.
	fields string
}

// endure ends the patience with what cannot be decided: what nobody looked
// into is held, and nobody is refused for a doubt.
func (d *decision) endure(f *authz.Facts) {
	if f.Scan == authz.Hold || f.Scan == authz.Later {
		d.holding = authz.Verdict{Outcome: authz.Hold, Rule: ruleContent, Reason: f.Scanner}
		d.held = append(d.held, d.later...)
	} else {
		d.admitted = append(d.admitted, d.later...)
	}
	d.later = nil
}

// contain holds all of a message whose sender was stopped after it was accepted:
// nobody refuses it for that.
func (d *decision) contain(why *event.Holding, a *event.Accepted) {
	d.holding = authz.Verdict{Outcome: authz.Hold, Rule: why.Rule, Reason: why.Why(), Device: a.Device, Owner: a.Owner, Class: a.Class}
	d.verdict, d.device, d.owner = d.holding, a.Device, a.Owner
	d.admitted, d.later, d.refused, d.held = nil, nil, nil, a.Env.Recipients
}

// ruleContent is the rule that asks what scanning says.
const ruleContent = "content"

// decide asks authorization for each recipient. It does no I/O.
func decide(rules *authz.Rules, reg *registry.Snapshot, a *event.Accepted) decision {
	d := decision{revision: reg.Revision}
	facts := a.Facts
	facts.Report = facts.Report || a.ReportOf != ""
	worst := -1
	var observed []string
	for i, rcpt := range a.Env.Recipients {
		facts.Recipient, facts.Recipients = &rcpt.Address, i
		v := authz.Decide(rules, reg, &facts)
		for _, rule := range v.Observed {
			if !slices.Contains(observed, rule) {
				observed = append(observed, rule)
			}
		}
		rank := 0
		switch v.Outcome {
		case authz.Admit:
			d.admitted = append(d.admitted, rcpt)
		case authz.Refuse:
			rank = 3
			d.refused = append(d.refused, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original, Reply: v.Reply})
		case authz.Hold:
			rank = 2
			d.held, d.holding = append(d.held, rcpt), v
		default: // nobody is refused for what is only doubtful
			rank = 1
			d.later, d.waiting = append(d.later, rcpt), v
		}
		if rank > worst {
			worst, d.verdict = rank, v
		}
	}
	d.verdict.Observed = observed
	d.device, d.owner = d.verdict.Device, d.verdict.Owner
	if facts.Report {
		d.device, d.owner = a.Device, a.Owner
	}
	device, ok := reg.Device(d.device)
	d.phi = a.PHI || ok && device.PHI
	return d
}
