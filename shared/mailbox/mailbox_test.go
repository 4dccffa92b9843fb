package mailbox

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/queuetest"
)

// An answer is remembered; silence and nonsense are doubts.
func TestAsk(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	asked := map[string]int{}
	sub, err := bus.NC.QueueSubscribe(Subject, Group, func(m *nats.Msg) {
		asked[string(m.Data)]++
		answer := map[string]string{"good@x.test": "valid", "bad@x.test": "unknown", "odd@x.test": "perhaps", "Good@x.test": "unknown"}[string(m.Data)]
		if answer != "" {
			m.Respond([]byte(answer))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	a := New(bus, Subject)
	for range 3 {
		for address, want := range map[string]authz.Standing{
			"good@x.test": authz.StandingValid, "bad@x.test": authz.StandingUnknown, "odd@x.test": authz.StandingDoubt, "silent@x.test": authz.StandingDoubt,
			"good@X.test": authz.StandingValid, "Good@x.test": authz.StandingUnknown,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			if got := a.Ask(ctx, address); got != want {
				t.Errorf("%s: %q, want %q", address, got, want)
			}
			cancel()
		}
	}
	if err := sub.Drain(); err != nil {
		t.Fatal(err)
	}
	for address, n := range asked {
		if n > 1 {
			t.Errorf("%s was asked about %d times", address, n)
		}
	}
	if got := New(bus, Subject).Ask(t.Context(), "good@x.test"); got != authz.StandingDoubt {
		t.Errorf("nobody answers: %q", got)
	}
}
