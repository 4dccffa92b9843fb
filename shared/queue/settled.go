package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
)

// JetStream alone would send twice: after a crash, consumer acknowledgements
// of the last moments are gone, and an acknowledged work-queue message is
// forgotten by the duplicate window. Settled is what a worker subtracts from
// every job before it sends: the recipients whose end stands in LEDGER.
//
// It reads along with LEDGER and keeps only where the records of each job lie,
// some 80 octets each. The records themselves are read when a job comes that
// has some, which a job of its first attempt has not (ends.go).

// SettledFor is how far back Settled knows, and SettledMost how many records at
// most. What a crash leaves behind is minutes old; what is older is known to
// the ledger service.
const (
	SettledFor  = time.Hour
	SettledMost = 500_000
)

// settledSkew is how much later than the bus a clock of ingress may be.
const settledSkew = time.Minute

const ledgerCheck = 30 * time.Second

// endSubjects are the records after which a recipient is not sent to again, or
// not under that drive. Failed is among them: its report is due, or written.
var endSubjects = [...]string{
	subjectDelivery + "delivered", subjectDelivery + "failed", "ledger.policy.failed",
	"ledger.bounce.*", "ledger.operator.removed", "ledger.operator.failed", "ledger.policy.discarded", "ledger.ledger.*",
}

// Settled follows LEDGER. It is current when it has read to the end since the
// last connect; a worker sends nothing before. While LEDGER is not what it was
// (CheckLedger) it does not become current, and so nothing is sent.
type Settled struct {
	// Hindered, where set before Follow, is told why nothing is sent, and nil
	// when that is over.
	Hindered func(why error)
	// Check, where changed before Follow, is how often LEDGER is compared with
	// its mark, and with what was read of it: every 30 s.
	Check time.Duration

	bus *Bus

	mu    sync.Mutex
	found index
	// current is closed while current; reconnects tells whether the connection
	// is still the one on which that became true.
	current    chan struct{}
	reconnects uint64
	// read is the last message of LEDGER in the index, and of which LEDGER.
	read     Mark
	consumer jetstream.Consumer
}

// NewSettled knows nothing yet; Follow makes it current.
func (b *Bus) NewSettled() *Settled {
	return &Settled{bus: b, Check: ledgerCheck, found: newIndex(), current: make(chan struct{})}
}

// Wait returns when everything that stands in LEDGER is known, or with the
// error of ctx.
func (s *Settled) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		current, reconnects := s.current, s.reconnects
		s.mu.Unlock()
		select {
		case <-current:
			if s.bus.NC.Stats().Reconnects == reconnects {
				return nil
			}
			s.unsure() // we saw it before Follow did
			continue
		default:
		}
		select {
		case <-current:
		case <-ctx.Done():
			return fmt.Errorf("wait for the ledger: %w", ctx.Err())
		}
	}
}

// Covers reports that every end of a message that was accepted then is known:
// the records about it are not older than what is kept.
func (s *Settled) Covers(accepted time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found.since.IsZero() || accepted.After(s.found.since.Add(settledSkew))
}

// From is the sequence of LEDGER from which on everything is known.
func (s *Settled) From() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found.from
}

// CatchUp returns when what stands in LEDGER now is known: another worker may
// have written a moment ago what a job that comes from it depends on.
func (s *Settled) CatchUp(ctx context.Context) error {
	if err := s.Wait(ctx); err != nil {
		return err
	}
	ledger, err := s.bus.JS.Stream(ctx, StreamLedger)
	if err != nil {
		return fmt.Errorf("catch up with the ledger: %w", err)
	}
	target := ledger.CachedInfo().State.LastSeq
	for {
		s.mu.Lock()
		read, consumer := s.read.Seq, s.consumer
		s.mu.Unlock()
		if read >= target {
			return nil
		}
		// The last records may be none of ours. A consumer hears of a record a moment
		// after it was acknowledged to its writer: LEDGER itself has the last word.
		info, err := consumer.Info(ctx)
		if err == nil && info.NumPending == 0 && (info.Delivered.Consumer == 0 || info.Delivered.Stream <= read) {
			if more, err := s.bus.hasEnds(ctx, read+1); err == nil && !more {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("catch up with the ledger: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// hasEnds reports a record of an end in LEDGER, from a sequence on, by what the
// leader of LEDGER says.
func (b *Bus) hasEnds(ctx context.Context, from uint64) (bool, error) {
	for _, subject := range endSubjects {
		switch found, err := b.atLeader(ctx, StreamLedger, map[string]any{"next_by_subj": subject, "seq": from}); {
		case err != nil:
			return false, err
		case found != nil:
			return true, nil
		}
	}
	return false, nil
}

// Follow reads LEDGER until ctx ends, and goes on after every reconnect: what a
// server lost and what others wrote meanwhile is seen before the next job.
func (s *Settled) Follow(ctx context.Context) error {
	status := s.bus.NC.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer s.bus.NC.RemoveStatusListener(status)
	check := time.NewTicker(s.Check)
	defer check.Stop()
	for ctx.Err() == nil {
		s.unsure()
		s.once(ctx, status, check.C)
	}
	return nil
}

// once reads LEDGER until it must be begun again.
func (s *Settled) once(ctx context.Context, status <-chan nats.Status, check <-chan time.Time) {
	before := s.progress(ctx)
	read, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.follow(read); err != nil && read.Err() == nil {
			s.bus.Log.Warn().Err(err).Msg("cannot follow the ledger, trying again")
			pause(read, pullPause)
		}
	}()
	defer func() {
		stop()
		<-done
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-status:
			return
		case <-done:
			return
		case <-check:
			if errors.Is(s.bus.CheckLedger(ctx), ErrRolledBack) {
				return
			}
			now := s.progress(ctx)
			if now.silent(before) {
				s.bus.Log.Debug().Uint64("read", now.read).Uint64("last", now.last).Msg("nothing came of LEDGER, beginning to read it again")
				return
			}
			if now.read != before.read || before.last == 0 {
				before = now
			}
		}
	}
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

func (s *Settled) sure(reconnects uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reconnects = reconnects
	select {
	case <-s.current:
	default:
		close(s.current)
	}
}

// follow reads from where it was, or from the start of the window, tells when
// the end is reached, and goes on with what is written.
func (s *Settled) follow(ctx context.Context) error {
	reconnects := s.bus.NC.Stats().Reconnects
	if err := s.agree(ctx); err != nil {
		return err
	}
	consumer, left, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	s.mu.Lock()
	s.consumer = consumer
	s.mu.Unlock()
	if left == 0 {
		s.sure(reconnects)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for n := uint64(1); ; n++ {
		m, err := messages.Next()
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		s.take(m, meta)
		if n == left || meta.NumPending == 0 {
			s.sure(reconnects)
		}
	}
}

// agree waits until LEDGER agrees with its mark.
func (s *Settled) agree(ctx context.Context) error {
	var said time.Time
	for {
		err := s.bus.CheckLedger(ctx)
		if !errors.Is(err, ErrRolledBack) {
			s.hindered(nil)
			return err
		}
		s.hindered(err)
		if time.Since(said) >= time.Minute {
			said = time.Now()
			s.bus.Log.Error().Err(err).Str("command", "postrider ledger recover --plan").
				Msg("nothing is sent: what was settled is not known; read the plan of the command and confirm it")
		}
		if !pause(ctx, s.Check/10) {
			return ctx.Err()
		}
	}
}

func (s *Settled) hindered(why error) {
	if s.Hindered != nil {
		s.Hindered(why)
	}
}

// open begins to read where it left off, if LEDGER still has there what it
// had, or else at the start of the window. left is how many messages there are.
func (s *Settled) open(ctx context.Context) (consumer jetstream.Consumer, left uint64, err error) {
	ledger, err := s.bus.JS.Stream(ctx, StreamLedger)
	if err != nil {
		return nil, 0, err
	}
	info := ledger.CachedInfo()
	s.mu.Lock()
	read := s.read
	s.mu.Unlock()
	if read.Seq > 0 && read.Stream == StreamIdentity(info) {
		at, err := storedAt(ctx, ledger, read.Seq)
		if err != nil {
			return nil, 0, err
		}
		if at.Equal(read.Time) {
			return s.begin(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: read.Seq + 1})
		}
	}
	since, from := time.Now().Add(-SettledFor), uint64(0)
	if state := info.State; state.Msgs == 0 || state.FirstTime.After(since) {
		since = time.Time{} // all there is
	}
	consumer, left, err = s.begin(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: new(time.Now().Add(-SettledFor))})
	if err == nil && left > SettledMost {
		from = info.State.LastSeq - SettledMost
		if since, err = storedAt(ctx, ledger, from); err == nil {
			consumer, left, err = s.begin(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found, s.read = newIndex(), Mark{Stream: StreamIdentity(info)}
	s.found.since, s.found.from = since, from
	if from == 0 && left == 0 {
		s.found.from = info.State.LastSeq
	}
	return consumer, left, err
}

func (s *Settled) begin(ctx context.Context, c jetstream.OrderedConsumerConfig) (jetstream.Consumer, uint64, error) {
	c.FilterSubjects = endSubjects[:]
	consumer, err := s.bus.JS.OrderedConsumer(ctx, StreamLedger, c)
	if err != nil {
		return nil, 0, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, 0, err
	}
	return consumer, info.NumPending + info.Delivered.Consumer, nil
}

// take notes where the records of a message of LEDGER lie.
func (s *Settled) take(m jetstream.Msg, meta *jetstream.MsgMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read.Seq, s.read.Time = meta.Sequence.Stream, meta.Timestamp.UTC()
	if s.found.from == 0 {
		s.found.from = meta.Sequence.Stream
	}
	if !s.found.add(m.Subject(), m.Data(), meta.Sequence.Stream, meta.Timestamp) {
		s.bus.Log.Warn().Uint64("seq", meta.Sequence.Stream).Msg("record of LEDGER cannot be read")
	}
}

// Of is what LEDGER says about the recipients of a job, as far back as it is
// kept here; nil when it says nothing.
func (s *Settled) Of(ctx context.Context, job *event.Job) (*Ends, error) {
	s.mu.Lock()
	seqs := s.found.of(job)
	s.mu.Unlock()
	if len(seqs) == 0 {
		return nil, nil
	}
	ledger, err := s.bus.stream(ctx, StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	ends := &Ends{}
	for _, seq := range seqs {
		m, err := ledger.GetMsg(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("read ledger at %d: %w", seq, err)
		}
		ends.read(job.QueueID, m.Data)
	}
	return ends, nil
}

// pause waits, and reports that ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
