package generate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// Recorder takes journal lines; an error means that they are not kept.
type Recorder interface {
	Append(lines ...any) error
}

// Generator makes one run of load.
type Generator struct {
	config  Config
	plan    *plan
	journal Recorder
	tally   *tally
	next    atomic.Int64 // number of the next message
	begun   time.Time
}

// New checks the configuration and prepares the text of the messages.
func New(config Config, recorder Recorder) (*Generator, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	plan, err := newPlan(config)
	if err != nil {
		return nil, err
	}
	return &Generator{config: config, plan: plan, journal: recorder, tally: newTally()}, nil
}

// Run submits the messages and returns when each has its outcome, or soon
// after ctx ends: transactions under way get the grace that is configured. It
// returns an error when the relay cannot be reached at the start or the
// journal cannot be written, and ctx's error when it was stopped; the summary
// is valid in every case.
func (g *Generator) Run(ctx context.Context) (Summary, error) {
	first, err := dial(ctx, g.config)
	if err != nil {
		return g.tally.summary(g.config), err
	}
	g.begun = time.Now()
	g.tally.begin(g.begun)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	for i := range min(g.config.Connections, g.config.Messages) {
		w := &worker{Generator: g}
		if i == 0 {
			w.session = first
		}
		workers.Go(func() {
			if err := w.run(inner); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	g.tally.end(time.Now())
	err = ctx.Err()
	if err == nil {
		err = context.Cause(inner)
	}
	return g.tally.summary(g.config), err
}

// Progress returns the counts so far. It may be called while Run runs.
func (g *Generator) Progress() Counts { return g.tally.snapshot() }

// worker is one connection and its successors.
type worker struct {
	*Generator
	session *session
	carried int // messages on this session
}

func (w *worker) run(ctx context.Context) error {
	defer w.hangUp()
	for ctx.Err() == nil {
		i := int(w.next.Add(1)) - 1
		if i >= w.config.Messages {
			return nil
		}
		if !w.pause(ctx, w.untilDue(i)) {
			return nil
		}
		if err := w.deliver(ctx, i); err != nil {
			return err
		}
		w.pause(ctx, w.config.Think)
	}
	return nil
}

// untilDue is how long it is until message i falls due.
func (w *worker) untilDue(i int) time.Duration {
	if w.config.Rate == 0 {
		return 0
	}
	return time.Until(w.begun.Add(time.Duration(float64(i) / w.config.Rate * float64(time.Second))))
}

// deliver submits message i until it is accepted, refused for good, or the
// retries are used up.
func (w *worker) deliver(ctx context.Context, i int) error {
	for attempt := 0; ; attempt++ {
		again, err := w.attempt(ctx, i, attempt)
		if err != nil || !again {
			return err
		}
		if attempt == w.config.Retries || !w.pause(ctx, min(w.config.Backoff<<min(attempt, 10), maxBackoff)) {
			w.tally.gaveUp()
			return nil
		}
	}
}

// pause waits, and reports false when ctx ended.
func (w *worker) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt makes one attempt and writes its end to the journal. It reports
// whether another may help. An error ends the run.
func (w *worker) attempt(ctx context.Context, i, attempt int) (again bool, err error) {
	if err := w.connect(ctx); err != nil {
		w.tally.unreachable()
		return true, nil
	}
	m := w.plan.message(i, attempt, time.Now())
	var journalErr error
	began := time.Now()
	result := w.session.submit(m, func() error {
		journalErr = w.journal.Append(sentLine(m, time.Now()))
		return journalErr
	})
	ended := time.Now()
	w.carried++
	if journalErr != nil {
		return false, journalErr
	}
	if err := w.journal.Append(endLine(m, result, ended)); err != nil {
		return false, err
	}
	w.tally.add(m, result, began, ended)
	if w.session.broken || w.carried == w.config.PerConnection {
		w.hangUp()
	}
	switch result.phase {
	case journal.Lost, journal.Aborted:
		return true, nil
	}
	return result.reply.code/100 == 4, nil
}

func (w *worker) connect(ctx context.Context) error {
	if w.session != nil {
		return nil
	}
	session, err := dial(ctx, w.config)
	if err != nil {
		return err
	}
	w.session, w.carried = session, 0
	w.tally.connected()
	return nil
}

func (w *worker) hangUp() {
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
}

// sentLine says everything about the message, before its dot.
func sentLine(m *message, now time.Time) journal.Submission {
	return journal.Submission{
		Token:      m.token,
		Phase:      journal.Sent,
		RetryOf:    m.retryOf,
		MessageID:  m.messageID,
		Sender:     m.sender,
		Recipients: m.recipients,
		BodySHA256: m.bodySHA256,
		At:         now,
	}
}

// endLine says how the attempt ended. When no sent line came before it, it
// names the message, too.
func endLine(m *message, o outcome, now time.Time) journal.Submission {
	line := journal.Submission{Token: m.token}
	if o.phase == journal.Refused || o.phase == journal.Aborted {
		line = sentLine(m, now)
	}
	line.Phase, line.At = o.phase, now
	line.Code, line.Enhanced, line.Text = o.reply.code, o.reply.enhanced, o.reply.text
	if o.err != nil {
		line.Text = o.err.Error()
	}
	if o.phase == journal.Reply && o.reply.positive() {
		line.QueueID = queueID(o.reply.text)
	}
	return line
}

// describe names an attempt's end in the counts by code: "250", "lost".
func describe(o outcome) string {
	if o.reply.code != 0 && o.phase != journal.Lost {
		return fmt.Sprint(o.reply.code)
	}
	return string(o.phase)
}
