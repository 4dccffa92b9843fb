package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Handler handles one message. What it returns settles it:
//
//	nil           acknowledged: everything that follows from it is stored
//	Later(d, why) comes again after d; not a failure
//	Poison(err)   cannot be read at all: logged loudly, comes again slowly
//	any other     our trouble: comes again with growing delay
//
// A handler never acknowledges by itself, may run twice for one message, and
// must do no harm then. A panic counts as an error.
type Handler func(ctx context.Context, m Message) error

// Message is one event as a handler sees it.
type Message struct {
	Data    []byte
	Subject string
	// Seq is its sequence in the stream.
	Seq uint64
	// Stored is when the stream stored it.
	Stored time.Time
	// Delivered counts deliveries, 1 for the first.
	Delivered uint64
}

// AckWait is how long the server waits for a sign of life from a handler, which
// shows four in that time: as long wait the messages of a worker that was
// killed.
const AckWait = 20 * time.Second

// Source is a durable consumer: which messages a worker handles.
type Source struct {
	Stream  string
	Durable string
	Filter  string // subject, may have wildcards; empty means all
	// Concurrency is how many handlers run at once. No more messages are taken.
	Concurrency int
	// Slots, where set, is shared by several sources: a handler begins when it
	// holds one, and its message is kept alive meanwhile.
	Slots chan struct{}
	// Begun, where set, is called once the first request for messages is out.
	Begun func()
}

// Work handles messages until ctx ends. It then takes no more, hands back
// what it had not begun, and returns when the running handlers have; they run
// under a context that ends grace after ctx.
func (b *Bus) Work(ctx context.Context, s Source, grace time.Duration, handle Handler) error {
	if err := b.consumer(ctx, s); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	pull, err := newPuller(b.NC, s.Stream, s.Durable, s.Concurrency)
	if err != nil {
		return err
	}
	defer pull.close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-work.Done():
		}
	})
	defer stop()
	w := &worker{
		bus: b, source: s, handle: handle, running: map[*nats.Msg]struct{}{},
		given: make(chan *nats.Msg, s.Concurrency), done: make(chan struct{}, s.Concurrency),
	}
	w.loop(ctx, work, pull)
	return nil
}

// consumer makes sure of the durable consumer, for as long as it takes. It is
// made again while the worker runs when it, or its stream, is gone.
func (b *Bus) consumer(ctx context.Context, s Source) error {
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		_, err := b.ensureConsumer(ctx, s)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.Log.Warn().Err(err).Str("stream", s.Stream).Str("consumer", s.Durable).Msg("cannot create consumer, trying again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// ensureConsumer creates what is missing of the consumer or has other settings;
// the server would write and sync also what is as it should be.
func (b *Bus) ensureConsumer(ctx context.Context, s Source) (*jetstream.ConsumerInfo, error) {
	want := s.config()
	c, err := b.JS.Consumer(ctx, s.Stream, s.Durable)
	if err == nil {
		have := c.CachedInfo().Config
		if have.FilterSubject == want.FilterSubject && have.AckWait == want.AckWait && have.MaxAckPending == want.MaxAckPending {
			return c.CachedInfo(), nil
		}
	}
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) {
		c, err = b.JS.CreateOrUpdateConsumer(ctx, s.Stream, want)
	}
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

func (s *Source) config() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       s.Durable,
		FilterSubject: s.Filter,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       AckWait,
		MaxDeliver:    -1, // nothing is dropped for having been tried often
		MaxAckPending: max(1024, 8*s.Concurrency),
	}
}

type worker struct {
	bus    *Bus
	source Source
	handle Handler
	// given is what the hands have to handle, done their word that one is.
	given chan *nats.Msg
	done  chan struct{}

	mu      sync.Mutex
	running map[*nats.Msg]struct{}
}

// loop takes messages as places are free, and waits for the handlers in the
// end.
func (w *worker) loop(ctx, work context.Context, pull *puller) {
	free, hands := w.source.Concurrency, 0
	defer close(w.given)
	alive := time.NewTicker(AckWait / 4)
	defer alive.Stop()
	again := time.NewTicker(pullPause)
	defer again.Stop()
	var made chan struct{} // closed when the consumer is there again; nil while it is
	begun := w.source.Begun
	for ctx.Err() == nil {
		if made == nil && pull.gone() {
			made = w.again(ctx)
		}
		if err := pull.ask(free, w.source.Concurrency); err != nil {
			w.bus.Log.Debug().Err(err).Str("consumer", w.source.Durable).Msg("cannot ask for messages")
		} else if begun != nil {
			begun()
			begun = nil
		}
		select {
		case <-ctx.Done():
		case <-w.done:
			free++
		case m := <-pull.arrived:
			if m = pull.take(m); m == nil {
				continue
			}
			free--
			if hands < w.source.Concurrency-free { // all have something
				hands++
				go w.hand(work)
			}
			w.given <- m
		case <-pull.status:
			pull.lost()
		case <-made:
			made = nil
			pull.found()
		case <-alive.C:
			w.keepAlive()
		case <-again.C:
		}
	}
	pull.handBack(work)
	for free < w.source.Concurrency {
		select {
		case <-w.done:
			free++
		case <-alive.C:
			w.keepAlive()
		}
	}
	w.bus.NC.FlushTimeout(time.Second) // the last acknowledgements are out
}

// again makes the consumer once more, beside the handlers that run.
func (w *worker) again(ctx context.Context) (made chan struct{}) {
	w.bus.Log.Warn().Str("stream", w.source.Stream).Str("consumer", w.source.Durable).Msg("consumer does not answer, making sure of it")
	made = make(chan struct{})
	go func() {
		defer close(made)
		w.bus.consumer(ctx, w.source)
	}()
	return made
}

// hand handles what is given, one after the other: a stack that has grown for a
// handler once is there for the next.
func (w *worker) hand(work context.Context) {
	for m := range w.given {
		w.one(work, m)
	}
}

// one runs the handler and settles the message by its error.
func (w *worker) one(ctx context.Context, m *nats.Msg) {
	defer func() { w.done <- struct{}{} }()
	w.mu.Lock()
	w.running[m] = struct{}{}
	w.mu.Unlock()
	msg := Message{Data: m.Data, Subject: m.Subject}
	if meta, err := m.Metadata(); err == nil {
		msg.Seq, msg.Stored, msg.Delivered = meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered
	}
	server := w.bus.NC.ConnectedServerId()
	err := w.inSlot(ctx, msg)
	w.mu.Lock()
	delete(w.running, m)
	w.mu.Unlock()
	if now := w.bus.NC.ConnectedServerId(); now != server || now == "" {
		// The word would name a sequence that a server which lost the message has
		// given to another since. It comes again where it was not lost.
		w.bus.Log.Debug().Err(err).Str("consumer", w.source.Durable).Uint64("seq", msg.Seq).Msg("handled under another server, not settled")
		return
	}
	w.settle(ctx, m, msg, err)
}

// keepAlive extends the deadline of every running handler.
func (w *worker) keepAlive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m := range w.running {
		m.InProgress()
	}
}

// inSlot runs the handler when a slot is free.
func (w *worker) inSlot(ctx context.Context, msg Message) error {
	if w.source.Slots == nil {
		return w.call(ctx, msg)
	}
	select {
	case w.source.Slots <- struct{}{}:
		defer func() { <-w.source.Slots }()
		return w.call(ctx, msg)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *worker) call(ctx context.Context, msg Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.handle(ctx, msg)
}

func (w *worker) settle(ctx context.Context, m *nats.Msg, msg Message, err error) {
	var later *laterError
	var poison *poisonError
	switch {
	case err == nil:
		err = m.Ack()
	case errors.As(err, &later):
		err = m.NakWithDelay(later.delay)
	case ctx.Err() != nil: // stopping: another worker takes it at once
		err = m.Nak()
	case errors.As(err, &poison):
		w.bus.Log.Error().Err(err).Str("stream", w.source.Stream).Uint64("seq", msg.Seq).Msg("event cannot be read; it stays in the stream")
		err = m.NakWithDelay(10 * time.Minute)
	default:
		w.bus.Log.Warn().Err(err).Str("consumer", w.source.Durable).Uint64("seq", msg.Seq).Uint64("delivered", msg.Delivered).Msg("handler failed, will try again")
		err = m.NakWithDelay(backoff(msg.Delivered))
	}
	if err != nil && !errors.Is(err, nats.ErrMsgAlreadyAckd) {
		w.bus.Log.Warn().Err(err).Str("consumer", w.source.Durable).Uint64("seq", msg.Seq).Msg("cannot settle")
	}
}

// backoff grows from a second to a minute.
func backoff(delivered uint64) time.Duration {
	return min(time.Minute, time.Second<<min(max(delivered, 1)-1, 6))
}

type laterError struct {
	delay time.Duration
	why   string
}

func (e *laterError) Error() string { return fmt.Sprintf("again in %s: %s", e.delay, e.why) }

// Later makes the event come again after d.
func Later(d time.Duration, why string) error { return &laterError{d, why} }

type poisonError struct{ err error }

func (e *poisonError) Error() string { return "unreadable event: " + e.err.Error() }
func (e *poisonError) Unwrap() error { return e.err }

// Poison marks an event that no repetition will make readable.
func Poison(err error) error { return &poisonError{err} }
