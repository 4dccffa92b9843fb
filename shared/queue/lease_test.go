package queue_test

import (
	"context"
	"testing"

	"github.com/postrider/postrider/shared/queuetest"
)

// One of two leads; when it stops, the other does.
func TestLead(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	leading := make(chan string)
	lead := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- bus.Lead(ctx, "books", name, func(ctx context.Context) {
				leading <- name
				<-ctx.Done()
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stopFirst := lead("first")
	if got := <-leading; got != "first" {
		t.Fatal(got)
	}
	stopSecond := lead("second")
	stopFirst()
	if got := <-leading; got != "second" {
		t.Error(got)
	}
	stopSecond()
}
