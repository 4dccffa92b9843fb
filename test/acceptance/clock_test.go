package acceptance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/services/policy/lifecycle"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// What time and events bring about. The relay runs the same jobs each minute; here
// a test says when, and by which rules.

// clock is a life cycle over a relay, whose rounds a test makes.
type clock struct {
	*lifecycle.Lifecycle
	t     *testing.T
	relay *relay
	group *service.Group
	// registry is what it knows.
	registry *store.Store
	now      time.Time // when it was made
}

func (r *relay) clock(t *testing.T, rules config.Lifecycle) *clock {
	t.Helper()
	cfg := *r.Config
	cfg.Lifecycle = rules
	c := &clock{t: t, relay: r, registry: r.follow(t), now: time.Now().UTC()}
	made := make(chan *lifecycle.Lifecycle, 1)
	c.group = service.NewGroup(service.Service{Name: "clock", Run: func(ctx context.Context, env *service.Env) error {
		made <- lifecycle.New(env, c.registry)
		env.Ready()
		<-ctx.Done()
		return nil
	}})
	background(t, func(ctx context.Context) error {
		return c.group.Run(ctx, service.Env{Config: &cfg, Bus: r.Bus, Log: queuetest.Log(t), Instance: "clock"})
	})
	c.Lifecycle = <-made
	return c
}

// follow is a registry that knows what happens.
func (r *relay) follow(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), r.Bus, r.Config.FileEntries())
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	background(t, func(ctx context.Context) error { return s.Follow(ctx, func() { close(ready) }) })
	<-ready
	return s
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// round makes a round so long after the clock was made, when it knows all that the
// registry has. One that meets a change by somebody else breaks off, and goes on
// with the next.
func (c *clock) round(after time.Duration) {
	c.t.Helper()
	revision := c.relay.load(c.t).Revision
	timetest.Await(c.t, "the clock to know the registry", func() bool { return c.registry.Snapshot().Revision >= revision })
	var last error
	timetest.Await(c.t, "a round", func() bool { last = c.Round(c.t.Context(), c.now.Add(after)); return last == nil })
}

const day = 24 * time.Hour

// started is a device with a contact of its own that was activated now, and may
// send.
func (r *relay) started(t *testing.T, name, address string) *registry.Device {
	t.Helper()
	d := newcomer(name+".campus.test", address, registry.StateActive)
	d.Contacts = []string{name + "-keeper@campus.test"}
	d.Dates.Activated = time.Now().UTC()
	if err := r.DNS.Set(recordsOf(d)); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	r.awaitSends(t, address, 250)
	t.Cleanup(func() {
		if is := r.device(t, d.Name); is.State != registry.StateRetired {
			r.remove(t, is)
		}
	})
	return d
}

func recordsOf(d *registry.Device) string {
	var b strings.Builder
	for _, a := range d.Addresses {
		b.WriteString(names(d.Name, a.Range.Addr()))
	}
	return b.String()
}

// device is what is registered now.
func (r *relay) device(t *testing.T, name string) *registry.Device {
	t.Helper()
	snapshot, err := r.registry.Load(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	d, ok := snapshot.Device(name)
	if !ok {
		t.Fatalf("%s is not registered", name)
	}
	return d
}

// notices are the messages that a contact of a device got about it.
func (r *relay) notices(to, subject string) (found []smtptest.Delivery) {
	for _, d := range r.sink.Deliveries() {
		if strings.Contains(d.Field("Subject"), subject) && strings.Contains(strings.Join(recipients(d), " "), "<"+to+">") {
			found = append(found, d)
		}
	}
	return found
}

// told waits until a contact was told something, and returns the last of it.
func (r *relay) told(t *testing.T, to, subject string) smtptest.Delivery {
	t.Helper()
	timetest.Await(t, to+" is told: "+subject, func() bool { return len(r.notices(to, subject)) > 0 })
	all := r.notices(to, subject)
	return all[len(all)-1]
}

// bounce sends a message that comes back, so that its sender gets a report.
func (r *relay) bounce(t *testing.T, from, sender string) {
	t.Helper()
	if got := r.try(t, attempt{from: from, on: r.SMTP, helo: hello, mail: sender, rcpt: "<550-5.1.1+gone@inet.test>", header: "From: " + sender}, r.token()); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
}

// settledRows waits until the books have so many rows of a device, all settled.
func (r *relay) settledRows(t *testing.T, device string, want int) {
	t.Helper()
	var n, open int
	timetest.Await(t, fmt.Sprintf("%d recipients of %s are settled", want, device), func() bool {
		n, open = 0, 0
		err := books.Client(r.Bus).Export(t.Context(), books.Filter{Device: device}, func(row books.Row) error {
			n++
			if row.State == books.StateQueued {
				open++
			}
			return nil
		})
		return err == nil && n >= want && open == 0
	})
	if n != want {
		t.Errorf("%d recipients of %s, want %d", n, device, want)
	}
}

// postrider runs a command at a relay, and returns what it says and its exit code.
func (r *relay) postrider(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	stdout, stderr, code := r.command(t, args...)
	return stdout + stderr, code
}
