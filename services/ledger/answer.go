package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/books"
)

// concurrency is how many questions are answered at a time; further ones wait
// their turn.
const concurrency = 32

// confirmWait is how long a client may take to use a part of an answer: a
// person may be paging through it. One that is gone is noticed at once, since
// the server reports a part that nobody received.
const confirmWait = 5 * time.Minute

// flushWait is how long the bus may take to know that questions are answered.
const flushWait = 5 * time.Second

// answerer reads a question and writes JSON values.
type answerer func(context.Context, []byte, *output) error

// output takes the values of an answer. What is not flushed waits for more.
type output struct {
	*json.Encoder
	*bufio.Writer
}

// answers are the questions that any instance answers.
func (l *Ledger) answers() map[books.Question]answerer {
	return map[books.Question]answerer{
		books.QuestionTrace:    value(l.trace),
		books.QuestionBalance:  value(l.balance),
		books.QuestionStatus:   value(l.status),
		books.QuestionExport:   l.export,
		books.QuestionEnds:     value(l.ends),
		books.QuestionUse:      l.use,
		books.QuestionObserved: l.observed,
		books.QuestionWays:     l.ways,
	}
}

// value makes an answer of a function from a question to one value.
func value[Q, A any](ask func(context.Context, Q) (A, error)) answerer {
	return func(ctx context.Context, data []byte, out *output) error {
		var q Q
		if err := readQuestion(data, &q); err != nil {
			return err
		}
		a, err := ask(ctx, q)
		if err != nil {
			return err
		}
		return out.Encode(a)
	}
}

func readQuestion(data []byte, q any) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, q); err != nil {
		return fmt.Errorf("%w: %w", books.ErrQuestion, err)
	}
	return nil
}

// serve answers questions until ctx ends. Of the instances in a group one
// answers; without a group, who asks must know that there is one.
func (l *Ledger) serve(ctx context.Context, group string, answers map[books.Question]answerer, ready func()) error {
	asked := make(chan *nats.Msg, 256)
	questions := map[string]books.Question{}
	for question := range answers {
		questions[question.Subject()] = question
		sub, err := l.bus.NC.ChanQueueSubscribe(question.Subject(), group, asked)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", question.Subject(), err)
		}
		defer sub.Unsubscribe()
	}
	// Without a connection they are made when there is one again.
	if err := l.bus.NC.FlushTimeout(flushWait); err != nil && ctx.Err() == nil {
		l.log.Warn().Err(err).Msg("questions will be answered once the bus is back")
	}
	ready()
	var running errgroup.Group
	running.SetLimit(concurrency)
	for {
		select {
		case <-ctx.Done():
			return running.Wait()
		case m := <-asked:
			question := questions[m.Subject]
			running.Go(func() error {
				l.answerOne(ctx, question, m, answers[question])
				return nil
			})
		}
	}
}

// answerOne answers one question, and says while it works that it does.
func (l *Ledger) answerOne(ctx context.Context, question books.Question, m *nats.Msg, write answerer) {
	if m.Reply == "" {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &parts{ctx: ctx, nc: l.bus.NC, to: m.Reply}
	defer p.close()
	go p.tellWaiting()
	began := time.Now()
	l.opened.RLock()
	defer l.opened.RUnlock()
	buffer := bufio.NewWriterSize(p, books.PartSize)
	out := &output{json.NewEncoder(buffer), buffer}
	err := write(ctx, m.Data, out)
	if err == nil {
		err = out.Flush()
	}
	l.metrics.answered(question, time.Since(began), err)
	switch {
	case err == nil:
		p.end()
	case ctx.Err() != nil || errors.Is(err, errClientGone): // the client notices the silence
	default:
		if books.CodeOf(err) == "" {
			l.log.Warn().Err(err).Str("question", string(question)).Msg("cannot answer")
		}
		p.fail(err)
	}
}

// errClientGone reports a client that no longer uses what it is sent.
var errClientGone = errors.New("client no longer reads the answer")

// parts sends an answer in parts, at most books.Window ahead of the client.
type parts struct {
	ctx  context.Context
	nc   *nats.Conn
	to   string
	sent int

	confirmed *nats.Subscription // made with the first part
	ahead     int
}

// Write sends one part, or more when data is larger, once the client has room.
func (p *parts) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		n := min(len(data), books.PartSize)
		if err := p.room(); err != nil {
			return written, err
		}
		if err := p.publish(books.KindPart, p.confirmed.Subject, data[:n], nil); err != nil {
			return written, err
		}
		p.sent++
		p.ahead++
		data, written = data[n:], written+n
	}
	return written, nil
}

// room waits until fewer than books.Window parts are unconfirmed.
func (p *parts) room() (err error) {
	if p.confirmed == nil {
		if p.confirmed, err = p.nc.SubscribeSync(p.nc.NewInbox()); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
	for p.ahead >= books.Window {
		wait, cancel := context.WithTimeout(p.ctx, confirmWait)
		_, err := p.confirmed.NextMsgWithContext(wait)
		cancel()
		switch {
		case p.ctx.Err() != nil:
			return p.ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", errClientGone, err)
		}
		p.ahead--
	}
	return nil
}

// tellWaiting keeps the client patient until ctx ends.
func (p *parts) tellWaiting() {
	tick := time.NewTicker(books.WaitInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
			p.publish(books.KindWait, "", nil, nil)
		}
	}
}

func (p *parts) end() {
	p.publish(books.KindEnd, "", nil, nats.Header{books.HeaderParts: []string{strconv.Itoa(p.sent)}})
}

func (p *parts) fail(err error) {
	p.publish(books.KindError, "", []byte(err.Error()), nats.Header{books.HeaderCode: []string{books.CodeOf(err)}})
}

func (p *parts) publish(kind, confirm string, data []byte, header nats.Header) error {
	if header == nil {
		header = nats.Header{}
	}
	header.Set(books.HeaderKind, kind)
	if err := p.nc.PublishMsg(&nats.Msg{Subject: p.to, Reply: confirm, Data: data, Header: header}); err != nil {
		return fmt.Errorf("send answer: %w", err)
	}
	return nil
}

func (p *parts) close() {
	if p.confirmed != nil {
		p.confirmed.Unsubscribe()
	}
}
