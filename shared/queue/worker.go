package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

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

// ackWait is how long the server waits for a sign of life from a handler.
const ackWait = time.Minute

// Source is a durable consumer: which messages a worker handles.
type Source struct {
	Stream  string
	Durable string
	Filter  string // subject, may have wildcards; empty means all
	// Concurrency is how many handlers run at once, and twice that is fetched.
	Concurrency int
	// Slots, where set, is shared by several sources: each running handler
	// holds one.
	Slots chan struct{}
}

// Work handles messages until ctx ends. It then takes no more, hands back
// what it had fetched but not begun, and returns when the running handlers
// have; they run under a context that ends grace after ctx.
func (b *Bus) Work(ctx context.Context, s Source, grace time.Duration, handle Handler) error {
	consumer, err := b.consumer(ctx, s)
	if err != nil {
		return err
	}
	w := &worker{bus: b, source: s, handle: handle, running: map[jetstream.Msg]struct{}{}, limit: make(chan struct{}, s.Concurrency)}
	iter, err := consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(2*s.Concurrency, 16<<20),
		jetstream.PullExpiry(30*time.Second))
	if err != nil {
		return fmt.Errorf("consume %s/%s: %w", s.Stream, s.Durable, err)
	}
	stop := context.AfterFunc(ctx, iter.Drain)
	defer stop()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	go w.keepAlive(work)
	w.loop(ctx, work, iter)
	w.wait.Wait()
	return nil
}

func (b *Bus) consumer(ctx context.Context, s Source) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		Durable:       s.Durable,
		FilterSubject: s.Filter,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1, // nothing is dropped for having been tried often
		MaxAckPending: max(256, 4*s.Concurrency),
	}
	for {
		c, err := b.JS.CreateOrUpdateConsumer(ctx, s.Stream, config)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b.Log.Warn().Err(err).Str("stream", s.Stream).Str("consumer", s.Durable).Msg("cannot create consumer, trying again")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

type worker struct {
	bus    *Bus
	source Source
	handle Handler
	limit  chan struct{}
	wait   sync.WaitGroup

	mu      sync.Mutex
	running map[jetstream.Msg]struct{}
}

func (w *worker) loop(ctx, work context.Context, iter jetstream.MessagesContext) {
	for {
		m, err := iter.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return
		case err != nil:
			w.bus.Log.Warn().Err(err).Str("consumer", w.source.Durable).Msg("cannot fetch")
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		if !w.acquire(ctx) {
			m.Nak()
			continue
		}
		w.wait.Go(func() {
			defer w.release()
			w.one(work, m)
		})
	}
}

// acquire takes a place to run in, unless the worker is stopping.
func (w *worker) acquire(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case w.limit <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if w.source.Slots == nil {
		return true
	}
	select {
	case w.source.Slots <- struct{}{}:
		return true
	case <-ctx.Done():
		<-w.limit
		return false
	}
}

func (w *worker) release() {
	<-w.limit
	if w.source.Slots != nil {
		<-w.source.Slots
	}
}

// one runs the handler and settles the message by its error.
func (w *worker) one(ctx context.Context, m jetstream.Msg) {
	w.mu.Lock()
	w.running[m] = struct{}{}
	w.mu.Unlock()
	msg := Message{Data: m.Data(), Subject: m.Subject()}
	if meta, err := m.Metadata(); err == nil {
		msg.Seq, msg.Stored, msg.Delivered = meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered
	}
	err := w.call(ctx, msg)
	w.mu.Lock()
	delete(w.running, m)
	w.mu.Unlock()
	w.settle(ctx, m, msg, err)
}

func (w *worker) call(ctx context.Context, msg Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.handle(ctx, msg)
}

func (w *worker) settle(ctx context.Context, m jetstream.Msg, msg Message, err error) {
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
	if err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		w.bus.Log.Warn().Err(err).Str("consumer", w.source.Durable).Uint64("seq", msg.Seq).Msg("cannot settle")
	}
}

// keepAlive extends the deadline of every running handler.
func (w *worker) keepAlive(ctx context.Context) {
	tick := time.NewTicker(ackWait / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.mu.Lock()
			for m := range w.running {
				m.InProgress()
			}
			w.mu.Unlock()
		}
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
