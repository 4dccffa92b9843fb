package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/queue"
)

// A question is a request with a JSON body. The answer is a sequence of
// replies, each with a HeaderKind:
//
//	part  the next piece of a stream of JSON values, cut anywhere. Its reply
//	      subject is where the client says, with an empty message, that it has
//	      used the piece; the service keeps at most Window pieces unconfirmed
//	wait  nothing yet, but somebody is at work
//	end   the answer is complete; HeaderParts is the number of parts, so that a
//	      lost one is noticed
//	error the body is why, HeaderCode which kind of error
const (
	HeaderKind  = "Postrider-Kind"
	HeaderParts = "Postrider-Parts"
	HeaderCode  = "Postrider-Code"

	KindPart  = "part"
	KindWait  = "wait"
	KindEnd   = "end"
	KindError = "error"
)

// Window is how many parts may be under way, and PartSize how many octets a
// part has at most: together they bound what a slow reader costs.
const (
	Window   = 8
	PartSize = 64 << 10
)

// WaitInterval is how often a service at work says so; a client that hears
// nothing for Silence gives up.
const (
	WaitInterval = 3 * time.Second
	Silence      = 15 * time.Second
)

// QueueGroup is what the instances of the service subscribe as: one answers.
const QueueGroup = "ledger"

// Question is the last token of a subject.
type Question string

// The questions.
const (
	QuestionTrace   Question = "trace"
	QuestionBalance Question = "balance"
	QuestionExport  Question = "export"
	QuestionStatus  Question = "status"
)

// Subject is where the question is asked.
func (q Question) Subject() string { return "postrider.ledger." + string(q) }

// codes are the errors that keep their meaning on the way.
var codes = map[string]error{"not-found": ErrNotFound, "behind": ErrBehind, "question": ErrQuestion, "plan-changed": ErrPlanChanged}

// CodeOf is the HeaderCode of an error; empty for one without a kind.
func CodeOf(err error) string {
	for code, kind := range codes {
		if errors.Is(err, kind) {
			return code
		}
	}
	return ""
}

// Books asks the ledger service.
type Books struct{ nc *nats.Conn }

// Client asks over a bus.
func Client(bus *queue.Bus) *Books { return &Books{nc: bus.NC} }

// TraceQuestion asks for a Trace.
type TraceQuestion struct {
	Text string `json:"text"`
}

// Trace finds what became of a QueueID, a Message-ID, or the mail from and to
// an address, from a device or from the address of a client. It is ErrNotFound when the books do not know it.
func (b *Books) Trace(ctx context.Context, text string) (*Trace, error) {
	return one[Trace](ctx, b, QuestionTrace, TraceQuestion{Text: text})
}

// Balance counts accepted mail against settled and queued mail. It waits for
// work in flight up to q.Wait and then answers what it found.
func (b *Books) Balance(ctx context.Context, q BalanceQuestion) (*Balance, error) {
	return one[Balance](ctx, b, QuestionBalance, q)
}

// Status tells how far the index of the instance that answers is.
func (b *Books) Status(ctx context.Context) (*Status, error) {
	return one[Status](ctx, b, QuestionStatus, struct{}{})
}

// Export hands every row that the filter selects to each, messages in the
// order in which the ledger learned of them. An error of each ends it.
func (b *Books) Export(ctx context.Context, f Filter, each func(Row) error) error {
	return stream(ctx, b, QuestionExport, f, each)
}

// stream hands the values of an answer to each as they come.
func stream[A any](ctx context.Context, b *Books, q Question, body any, each func(A) error) error {
	answer, err := b.ask(ctx, q, body)
	if err != nil {
		return err
	}
	defer answer.close()
	for values := json.NewDecoder(answer); ; {
		var a A
		switch err := values.Decode(&a); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("ask for %s: %w", q, err)
		}
		if err := each(a); err != nil {
			return err
		}
	}
}

// one asks a question whose answer is a single value.
func one[A any](ctx context.Context, b *Books, q Question, body any) (*A, error) {
	answer, err := b.ask(ctx, q, body)
	if err != nil {
		return nil, err
	}
	defer answer.close()
	out, values := new(A), json.NewDecoder(answer)
	if err := values.Decode(out); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", q, noValue(err))
	}
	if _, err := values.Token(); !errors.Is(err, io.EOF) { // it must have ended well
		return nil, fmt.Errorf("ask for %s: %w", q, noValue(err))
	}
	return out, nil
}

// noValue names what a decoder says about an answer that has no value.
func noValue(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the answer has not one value", ErrUnreachable)
	}
	return err
}

// ask sends a question; the answer is read as it arrives.
func (b *Books) ask(ctx context.Context, q Question, body any) (*answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", q, err)
	}
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w: %w", q, ErrUnreachable, err)
	}
	a := &answer{ctx: ctx, nc: b.nc, sub: sub}
	if err := b.nc.PublishRequest(q.Subject(), inbox, data); err != nil {
		a.close()
		return nil, fmt.Errorf("ask for %s: %w: %w", q, ErrUnreachable, err)
	}
	return a, nil
}

// answer is the stream of octets of an answer.
type answer struct {
	ctx   context.Context
	nc    *nats.Conn
	sub   *nats.Subscription
	rest  []byte
	used  string // where to confirm the part that rest belongs to
	parts int
	err   error // io.EOF after a complete answer
}

func (a *answer) close() { a.sub.Unsubscribe() }

// Read returns io.EOF only after a complete answer.
func (a *answer) Read(p []byte) (int, error) {
	for len(a.rest) == 0 && a.err == nil {
		a.confirm()
		a.err = a.next()
	}
	if len(a.rest) == 0 {
		return 0, a.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// confirm tells the service that the last part is used.
func (a *answer) confirm() {
	if a.used != "" {
		a.nc.Publish(a.used, nil)
		a.used = ""
	}
}

// next takes one reply.
func (a *answer) next() error {
	m, err := a.receive()
	if err != nil {
		return err
	}
	switch kind := m.Header.Get(HeaderKind); kind {
	case KindPart:
		a.rest, a.used = m.Data, m.Reply
		a.parts++
		return nil
	case KindWait:
		return nil
	case KindEnd:
		if m.Header.Get(HeaderParts) != strconv.Itoa(a.parts) {
			return fmt.Errorf("%w: %d of %s parts of the answer arrived", ErrUnreachable, a.parts, m.Header.Get(HeaderParts))
		}
		return io.EOF
	case KindError:
		if kind, ok := codes[m.Header.Get(HeaderCode)]; ok {
			return &remoteError{kind, string(m.Data)}
		}
		return errors.New(string(m.Data))
	default:
		return fmt.Errorf("%w: unknown kind of reply %q", ErrUnreachable, kind)
	}
}

// receive waits for a reply, for as long as replies come.
func (a *answer) receive() (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(a.ctx, Silence)
	defer cancel()
	m, err := a.sub.NextMsgWithContext(ctx)
	switch {
	case a.ctx.Err() != nil:
		return nil, a.ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return m, nil
}

// remoteError is an error of the service with its kind.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }
