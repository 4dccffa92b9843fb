package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// How long the first of those who are asked may take, and the next one after it.
const (
	gatherFirst = time.Second
	gatherNext  = 150 * time.Millisecond
)

// Answer answers whoever gathers on a subject, until stop is called.
func (b *Bus) Answer(subject string, answer func() []byte) (stop func(), err error) {
	sub, err := b.NC.Subscribe(subject, func(m *nats.Msg) { m.Respond(answer()) })
	if err != nil {
		return nil, fmt.Errorf("answer on %s: %w", subject, err)
	}
	return func() { sub.Unsubscribe() }, nil
}

// Gather hands what everybody answers on a subject to each. Those that do not
// answer are not there: nobody is waited for by name.
func (b *Bus) Gather(ctx context.Context, subject string, each func([]byte)) error {
	return gather(ctx, b.NC, subject, nil, each)
}

func gather(ctx context.Context, nc *nats.Conn, subject string, question []byte, each func([]byte)) error {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask on %s: %w", subject, err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, inbox, question); err != nil {
		return fmt.Errorf("ask on %s: %w", subject, err)
	}
	for wait := gatherFirst; ; wait = gatherNext {
		m, err := nextWithin(ctx, sub, wait)
		if err != nil || len(m.Data) == 0 { // nobody else, nobody at all, or no permission
			return ctx.Err()
		}
		each(m.Data)
	}
}
