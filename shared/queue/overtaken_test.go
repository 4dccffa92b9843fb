package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Who comes second is told so, whether it wanted the key to be new or the
// revision to be the one it had read; by a cluster under another code.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	kv, err := bus.JS.KeyValue(t.Context(), queue.BucketSettings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "x", "first"); err != nil {
		t.Fatal(err)
	}
	_, created := kv.Create(t.Context(), "x", nil)
	_, updated := kv.Update(t.Context(), "x", nil, 99)
	_, published := bus.Publish(t.Context(), queue.KeepSubject("x"), "1", nil, jetstream.WithExpectLastSequenceForSubject(9, queue.KeepSubject("x")))
	code := func(n jetstream.ErrorCode) error { return fmt.Errorf("put: %w", &jetstream.APIError{ErrorCode: n}) }
	for what, err := range map[string]error{"create": created, "update": updated, "publish": published, "10071": code(10071), "10164": code(10164)} {
		if !queue.Overtaken(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range []error{nil, errors.New("other"), code(10023), jetstream.ErrKeyNotFound} {
		if queue.Overtaken(err) {
			t.Errorf("not overtaken: %v", err)
		}
	}
}
