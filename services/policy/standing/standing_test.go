package standing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// made is a directory that answers as ask does.
func made(t *testing.T, ask func(context.Context, string) (Class, error)) *Directory {
	t.Helper()
	cfg := config.Directory{
		URL: "ldap://127.0.0.1:1", Clear: true, Base: "dc=test", Filter: "(mail=%s)", Attribute: "employeeType",
		Person: []string{"staff", "student"}, Function: []string{"role"}, List: []string{"group"}, Service: []string{"svc"},
	}
	d, err := Open(cfg, nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if ask != nil {
		d.ask = ask
	}
	return d
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	d := made(t, nil)
	for _, tt := range []struct {
		values []string
		want   Class
		said   authz.Standing
	}{
		{[]string{"staff"}, Person, authz.StandingPersonal}, {[]string{"STUDENT"}, Person, authz.StandingPersonal},
		{[]string{"role"}, Function, authz.StandingValid}, {[]string{"svc"}, Service, authz.StandingValid}, {[]string{"group"}, List, authz.StandingValid},
		{[]string{"staff", "role"}, Function, authz.StandingValid}, {[]string{"alumnus"}, Other, authz.StandingValid}, {nil, Other, authz.StandingValid},
	} {
		if got := d.classOf(tt.values); got != tt.want || got.Standing() != tt.said {
			t.Errorf("%v: %s, %s", tt.values, got, got.Standing())
		}
	}
	if Absent.Standing() != authz.StandingUnknown {
		t.Error("absent is not unknown")
	}
}

// What a directory that is down last said holds for 72 h; of others there is a
// doubt.
func TestLastAnswerHolds(t *testing.T) {
	t.Parallel()
	var down error
	d := made(t, func(context.Context, string) (Class, error) { return Person, down })
	if _, err := d.Class(t.Context(), "anna@x.test"); err != nil {
		t.Fatal(err)
	}
	down = errors.New("no route to host")
	for range 2 * givenUp { // the breaker opens meanwhile
		if c, err := d.Class(t.Context(), "anna@x.test"); c != Person || err != nil {
			t.Errorf("%s, %v", c, err)
		}
		if c, err := d.Class(t.Context(), "bert@x.test"); c != "" || !errors.Is(err, ErrDown) {
			t.Errorf("%s, %v", c, err)
		}
	}
	for answer, want := range map[string]float64{"person": 1, "remembered": 2 * givenUp, "none": 2 * givenUp} {
		if got := testutil.ToFloat64(d.answers.WithLabelValues(answer)); got != want {
			t.Errorf("%s: %v, want %v", answer, got, want)
		}
	}
	if e, ok := d.last.GetEntry("anna@x.test"); !ok || e.ExpiresAfter() > lastAnswer || e.ExpiresAfter() < lastAnswer-time.Hour {
		t.Errorf("it holds for %v", e.ExpiresAfter())
	}
}

// A directory that is down is spared, and asked again after a while.
func TestSpared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, error(errors.New("timeout"))
		d := made(t, func(context.Context, string) (Class, error) { asked++; return Function, down })
		defer d.last.StopAllGoroutines()
		for range 3 * givenUp {
			if _, err := d.Class(t.Context(), "prn@x.test"); !errors.Is(err, ErrDown) {
				t.Errorf("%v", err)
			}
		}
		if asked != givenUp {
			t.Errorf("asked %d times", asked)
		}
		down = nil
		time.Sleep(spared + time.Second)
		if c, err := d.Class(t.Context(), "prn@x.test"); c != Function || err != nil {
			t.Errorf("%s, %v", c, err)
		}
	})
}

// Ingress asks over the bus, and the callout only about what the directory does
// not have.
func TestRun(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	d := made(t, func(_ context.Context, address string) (Class, error) {
		switch address {
		case "prn@x.test":
			return Function, nil
		case "anna@x.test":
			return Person, nil
		case "gone@x.test":
			return Absent, nil
		}
		return "", errors.New("down")
	})
	d.bus = bus
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	timetest.Await(t, "an answer", func() bool {
		return mailbox.New(bus, mailbox.Directory).Ask(t.Context(), "prn@x.test") == authz.StandingValid
	})
	a := mailbox.New(bus, mailbox.Directory)
	for address, want := range map[string]authz.Standing{
		"anna@x.test": authz.StandingPersonal, "gone@x.test": authz.StandingUnknown, "other@x.test": authz.StandingDoubt,
	} {
		if got := a.Ask(t.Context(), address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
