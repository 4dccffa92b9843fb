// Package notices sends the notices that people ask for (postrider notify).
//
// Consumes: the notices of the registry; the ledger's books.
// Produces: one message to each contact of a notice in MAIL (package notice),
// with the id of the notice as submission id. When all are stored the notice says
// so in the registry.
//
// Guarantees: one process at a time does so (a lease). A contact gets one message
// of a notice: its QueueID follows from both, so that MAIL takes it once within
// two minutes; a notice older than that, which another process may have begun, is
// compared with MAIL and the books first. Nothing is lost: what was not sent is
// sent by whoever leads next.
//
// Failures: while the store is full or the books do not answer, a notice waits,
// and the condition of the process says so. Limits: those of registry.Notice; a
// few hundred messages a second.
package notices

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/notice"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

const (
	period = time.Second
	// fresh is how old a notice may be for MAIL to know what was stored of it: less
	// than the duplicate window.
	fresh = time.Minute
	actor = "notices"
)

// Sender sends notices.
type Sender struct {
	bus      *queue.Bus
	registry *store.Store
	relay    config.Relay
	log      zerolog.Logger
	instance string
	hindered func(why error)
	// trace and export ask the books.
	trace  func(ctx context.Context, text string) (*books.Trace, error)
	export func(context.Context, books.Filter, func(books.Row) error) error
	// sent are the messages of unfinished notices that are known to be stored.
	sent map[string]map[mail.QueueID]bool
}

// New makes one; it does nothing before Run.
func New(env *service.Env, reg *store.Store) *Sender {
	b := books.Client(env.Bus)
	return &Sender{
		bus: env.Bus, registry: reg, relay: env.Config.Relay, log: env.Log.With().Str("job", "notices").Logger(), instance: env.Instance,
		hindered: func(why error) { env.Hindered("notices", why) }, trace: b.Trace, export: b.Export,
	}
}

// Run sends what is to be sent until ctx ends, while this process holds the lease.
func (s *Sender) Run(ctx context.Context) error {
	return s.bus.Lead(ctx, "notices", s.instance, func(ctx context.Context) {
		s.sent = map[string]map[mail.QueueID]bool{}
		tick := time.NewTicker(period)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := s.round(ctx, time.Now().UTC()); ctx.Err() == nil {
				s.hindered(err)
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
}

// round goes on with every notice that is not finished.
func (s *Sender) round(ctx context.Context, now time.Time) error {
	var failed []error
	for _, n := range s.registry.Snapshot().Unsent() {
		if err := s.send(ctx, n, now); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", n, err))
		}
	}
	return errors.Join(failed...)
}

// send stores what of a notice is not stored, then says that all is.
func (s *Sender) send(ctx context.Context, n *registry.Notice, now time.Time) error {
	known := s.sent[n.ID]
	if known == nil {
		known = map[mail.QueueID]bool{}
		if now.Sub(n.Made) > fresh {
			if err := s.begun(ctx, n, known); err != nil {
				return err
			}
		}
		s.sent[n.ID] = known
	}
	for _, a := range n.To {
		id := n.MessageID(a.Contact)
		if known[id] {
			continue
		}
		if _, err := s.message(n, a, id).Store(ctx, s.bus); err != nil {
			return err
		}
		known[id] = true
	}
	done, err := registry.Clone(n)
	if err != nil {
		return err
	}
	done.Stored = now
	done.Stamp(registry.Change{By: actor, Reason: "a message to each contact is on its way", At: now})
	if err := s.registry.Put(ctx, done); err != nil {
		return err
	}
	delete(s.sent, n.ID)
	s.log.Info().Str("notice", n.ID).Int("contacts", len(n.To)).Msg("sent")
	return nil
}

// begun finds the messages of a notice that another process stored: those that
// wait in MAIL, then those that the books have. In this order none moves from the
// one to the other unseen.
func (s *Sender) begun(ctx context.Context, n *registry.Notice, known map[mail.QueueID]bool) error {
	for _, a := range n.To {
		id := n.MessageID(a.Contact)
		switch _, err := s.trace(ctx, string(id)); {
		case err == nil:
			known[id] = true
		case !errors.Is(err, books.ErrNotFound):
			return err
		}
	}
	return s.export(ctx, books.Filter{Submission: n.ID}, func(r books.Row) error {
		known[r.QueueID] = true
		return nil
	})
}

// message is what one contact hears.
func (s *Sender) message(n *registry.Notice, a registry.Addressee, id mail.QueueID) *notice.Message {
	m := &notice.Message{ID: id, Relay: s.relay, To: []string{a.Contact}, Subject: n.Subject, At: n.Made, Writer: actor, Submission: n.ID}
	m.Lines = append(strings.Split(strings.TrimRight(n.Text, "\n"), "\n"), "")
	if n.Effective != "" {
		m.Lines = append(m.Lines, "Begins:   "+n.Effective, "")
	}
	for i, d := range a.Devices {
		label := "          "
		if i == 0 {
			label = "Devices:  "
		}
		m.Lines = append(m.Lines, label+d)
	}
	if a.More > 0 {
		m.Lines = append(m.Lines, fmt.Sprintf("          and %d more", a.More))
	}
	if len(a.Devices) > 0 {
		m.Lines = append(m.Lines, "")
	}
	return m
}
