package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// JetStream alone would send twice: after a crash, consumer acknowledgements
// of the last moments are gone, and an acknowledged work-queue message is
// forgotten by the duplicate window. Settled is what a worker subtracts from
// every job before it sends: the recipients whose end stands in LEDGER.

// SettledFor is how far back Settled knows, and SettledMost how many messages
// at most: some 100 MB. What a crash leaves behind is minutes old.
const (
	SettledFor  = time.Hour
	SettledMost = 200_000
)

// ends are the records after which a recipient is not sent to again. Failed is
// among them: its report is due, or written.
var ends = [...]string{
	"ledger.delivery.delivered", "ledger.delivery.failed", "ledger.policy.failed",
	"ledger.bounce.*", "ledger.operator.removed", "ledger.policy.discarded",
}

// Settled follows LEDGER. It is current when it has read to the end since the
// last connect; a worker sends nothing before.
type Settled struct {
	bus *Bus

	mu      sync.Mutex
	known   map[mail.QueueID]*settledMessage
	order   []*settledMessage // oldest first
	current chan struct{}     // closed while current
}

// settledMessage is what is known of one message.
type settledMessage struct {
	id  mail.QueueID
	at  time.Time // of the last record
	end map[smtp.ForwardPath]event.Outcome
	// failed are the records of failures: their reports may not be asked for yet.
	failed []*event.Record
}

// NewSettled knows nothing yet; Follow makes it current.
func (b *Bus) NewSettled() *Settled {
	return &Settled{bus: b, known: map[mail.QueueID]*settledMessage{}, current: make(chan struct{})}
}

// Wait returns when everything that stands in LEDGER is known, or with the
// error of ctx.
func (s *Settled) Wait(ctx context.Context) error {
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	select {
	case <-current:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the ledger: %w", ctx.Err())
	}
}

// Ends are the recipients of a message whose end is known, with it, and the
// records of those that failed.
func (s *Settled) Ends(id mail.QueueID) (ends map[smtp.ForwardPath]event.Outcome, failed []*event.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.known[id]
	if m == nil {
		return nil, nil
	}
	return maps.Clone(m.end), slices.Clone(m.failed)
}

// Follow reads LEDGER until ctx ends, and again from the window's start after
// every reconnect: what a server lost and what others wrote meanwhile is seen
// before the next job.
func (s *Settled) Follow(ctx context.Context) error {
	status := s.bus.NC.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer s.bus.NC.RemoveStatusListener(status)
	for ctx.Err() == nil {
		s.unsure()
		read, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.read(read) }()
		select {
		case <-ctx.Done():
		case <-status: // begin again
		case err := <-done:
			done <- nil
			if err != nil && ctx.Err() == nil {
				s.bus.Log.Warn().Err(err).Msg("cannot follow the ledger, trying again")
				select {
				case <-ctx.Done():
				case <-time.After(pullPause):
				}
			}
		}
		stop()
		<-done
	}
	return nil
}

// unsure makes workers wait until LEDGER was read to its end again.
func (s *Settled) unsure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.current:
		s.current = make(chan struct{})
	default:
	}
}

func (s *Settled) sure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.current:
	default:
		close(s.current)
	}
}

// read reads from the start of the window, tells when the end is reached, and
// goes on with what is written.
func (s *Settled) read(ctx context.Context) error {
	since := time.Now().Add(-SettledFor)
	consumer, err := s.bus.JS.OrderedConsumer(ctx, StreamLedger, jetstream.OrderedConsumerConfig{
		FilterSubjects: ends[:], DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	})
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	left := info.NumPending + info.Delivered.Consumer
	if left == 0 {
		s.sure()
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		records, err := event.DecodeRecords(m.Data())
		if err != nil {
			s.bus.Log.Warn().Err(err).Uint64("seq", meta.Sequence.Stream).Msg("record of LEDGER cannot be read")
		}
		for _, r := range records {
			if r != nil {
				s.add(r, meta.Timestamp)
			}
		}
		if meta.NumPending == 0 {
			s.sure()
		}
	}
}

// add takes a record over and forgets what is too old.
func (s *Settled) add(r *event.Record, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.known[r.QueueID]
	if m == nil {
		m = &settledMessage{id: r.QueueID, end: make(map[smtp.ForwardPath]event.Outcome, len(r.Recipients))}
		s.known[r.QueueID] = m
		s.order = append(s.order, m)
	}
	m.at = at
	if r.Outcome == event.Failed {
		m.failed = append(m.failed, r)
	}
	for _, rcpt := range r.Recipients {
		if had, ok := m.end[rcpt.Address]; !ok || !had.Terminal() {
			m.end[rcpt.Address] = r.Outcome
		}
	}
	for len(s.order) > SettledMost || len(s.order) > 0 && at.Sub(s.order[0].at) > SettledFor {
		delete(s.known, s.order[0].id)
		s.order = s.order[1:]
	}
}
