package queue

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
)

// Who comes too late to ask has not found out that nobody answers.
func TestAskedTooLate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &servers{}
	if s.ask(ctx, &nats.Conn{}, storeQuestion, func([]byte) bool { return true }) || len(s.deaf) > 0 {
		t.Errorf("not asked again: %v", s.deaf)
	}
}
