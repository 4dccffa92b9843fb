//go:build recovery

package recovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/services/bounce"
	"github.com/postrider/postrider/services/delivery"
	"github.com/postrider/postrider/services/ingress"
	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/services/policy"
	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// relay is a whole relay in this process. It can be stopped and started again
// on the same directory.
type relay struct {
	*world.World
	t      *testing.T
	server *natsd.Server
	// halt ends the services and waits for them; nil while none run.
	halt func()
}

// newRelay starts a relay that tries again only after an hour: whoever is
// deferred stays in DELIVER.
func newRelay(t *testing.T) *relay {
	r := &relay{t: t}
	world.New(t, func(_ testing.TB, w *world.World) {
		r.World = w
		r.serve()
		r.start()
	}, func(c *config.Config) {
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
		c.Delivery.Connections = 100
	})
	return r
}

// serve starts the bus alone.
func (r *relay) serve() {
	r.server = queuetest.Server(r.t, r.Config.Relay.Data)
	r.Bus = queuetest.Connect(r.t, r.server)
	r.t.Cleanup(func() { r.halt() }) // before the server, when the test ends
}

// start starts the services.
func (r *relay) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	err := queue.Ensure(ctx, r.Bus.JS, 1, time.Duration(r.Config.Retention.Ledger))
	if err == nil {
		err = queue.ForgetWorkers(ctx, r.Bus.JS)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	group := service.NewGroup(ledger.Service, ingress.Service, policy.Service, signer.Service, delivery.Service, bounce.Service)
	done := make(chan error, 1)
	env := service.Env{Config: r.Config, Bus: r.Bus, Log: queuetest.Log(r.t), Metrics: prometheus.NewRegistry(), Instance: service.NewInstance()}
	go func() { done <- group.Run(ctx, env) }()
	r.halt = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	// A relay whose LEDGER is rolled back is not ready, and runs.
	world.WaitFor(r.t, "the relay to take mail", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.SMTP)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// stop stops everything; the directory stays.
func (r *relay) stop() {
	r.halt()
	r.Bus.Close()
	r.server.Stop()
}

// dir is where a stream lies.
func (r *relay) dir(stream string) string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.Config.Relay.Data, "bus", "jetstream", "*", "streams", stream))
	if err != nil || len(found) != 1 {
		r.t.Fatalf("directories of %s: %v, %v", stream, found, err)
	}
	return found[0]
}

// batch submits n messages from the printer, by some devices side by side, and
// returns their recipients. address makes the recipients of a message.
func (r *relay) batch(n int, sender string, address func(i int) []string) (all []string) {
	r.t.Helper()
	var devices sync.WaitGroup
	next := make(chan int)
	for range 8 {
		devices.Go(func() {
			for i := range next {
				from := strings.ReplaceAll(sender, "#", strconv.Itoa(i))
				if _, err := r.TrySubmit(world.Submission{From: world.Printer, Sender: from, To: address(i), Content: world.Message(fmt.Sprint(i))}); err != nil {
					r.t.Errorf("submit to %v: %v", address(i), err)
				}
			}
		})
	}
	for i := range n {
		next <- i
		all = append(all, address(i)...)
	}
	close(next)
	devices.Wait()
	return all
}

// to makes the one recipient of a message: that of message 7 of a batch is
// local+batch7@domain.
func to(local, batch, domain string) func(int) []string {
	return func(i int) []string { return []string{fmt.Sprintf("%s+%s%d@%s", local, batch, i, domain)} }
}

// addresses are those of n messages.
func addresses(n int, of func(int) []string) (all []string) {
	for i := range n {
		all = append(all, of(i)...)
	}
	return all
}

// pause holds the consumer of a service, or lets it go on.
func (r *relay) pause(stream, durable string, until time.Time) {
	r.t.Helper()
	if _, err := r.Bus.JS.PauseConsumer(r.t.Context(), stream, durable, until); err != nil {
		r.t.Fatal(err)
	}
}

// states waits until the books have so many recipients in each state.
func (r *relay) states(want map[string]int) {
	r.t.Helper()
	world.WaitFor(r.t, fmt.Sprint("states ", want), func(ctx context.Context) error {
		s, err := books.Client(r.Bus).Status(ctx)
		if err != nil {
			return err
		}
		for state, n := range want {
			if s.States[state] != n {
				return fmt.Errorf("states %v", s.States)
			}
		}
		return nil
	})
}

// jobs waits until DELIVER holds so many jobs that are deferred, and so many
// with a worker.
func (r *relay) jobs(deferred, working int) {
	r.t.Helper()
	world.WaitFor(r.t, "jobs in DELIVER", func(ctx context.Context) error {
		later, now := 0, 0
		err := r.Bus.ListJobs(ctx, func(e queue.JobEntry) error {
			if e.Deferred() {
				later++
			} else {
				now++
			}
			return nil
		})
		if err == nil && (later != deferred || now != working) {
			err = fmt.Errorf("%d are deferred, %d are not", later, now)
		}
		return err
	})
}

// holds waits until a stream holds so many messages.
func (r *relay) holds(stream string, n uint64) {
	r.t.Helper()
	world.WaitFor(r.t, fmt.Sprint(n, " messages in ", stream), func(ctx context.Context) error {
		s, err := r.Bus.JS.Stream(ctx, stream)
		if err == nil && s.CachedInfo().State.Msgs != n {
			err = fmt.Errorf("it has %d", s.CachedInfo().State.Msgs)
		}
		return err
	})
}

// waits waits until so many messages wait for a consumer.
func (r *relay) waits(stream, durable string, n uint64) {
	r.t.Helper()
	world.WaitFor(r.t, fmt.Sprint(n, " messages before ", durable), func(ctx context.Context) error {
		c, err := r.Bus.JS.Consumer(ctx, stream, durable)
		if err == nil && c.CachedInfo().NumPending != n {
			err = fmt.Errorf("there are %d", c.CachedInfo().NumPending)
		}
		return err
	})
}

// copies counts how often each recipient got mail.
func copies(mxs ...*smtptest.MX) map[string]int {
	out := map[string]int{}
	for _, mx := range mxs {
		for _, d := range mx.Deliveries() {
			for _, rcpt := range d.Recipients {
				out[rcpt.Address.String()]++
			}
		}
	}
	return out
}

// plan asks for the plan until it is as expected.
func (r *relay) plan(what string, expected func(*books.Plan) bool) *books.Plan {
	r.t.Helper()
	var plan *books.Plan
	told := "-"
	world.WaitFor(r.t, what, func(ctx context.Context) (err error) {
		plan, err = books.Client(r.Bus).Recover(ctx, books.RecoverQuestion{}, func(int, int) {})
		if err != nil {
			return err
		}
		if plan.ID != told {
			told = plan.ID
			r.t.Log(summary(plan))
		}
		if !expected(plan) {
			err = errors.New(summary(plan))
		}
		return err
	})
	return plan
}

// summary is a plan on one line.
func summary(p *books.Plan) string {
	s := fmt.Sprintf("plan %s, held %q:", p.ID, p.Held)
	for _, a := range p.Actions {
		s += fmt.Sprintf(" %s %d messages, %d recipients;", a.Action, a.Messages, a.Recipients)
	}
	return s
}

// confirm has a plan carried out.
func (r *relay) confirm(plan *books.Plan) {
	r.t.Helper()
	began := time.Now()
	done, err := books.Client(r.Bus).Recover(r.t.Context(), books.RecoverQuestion{Confirm: plan.ID, Actor: "ann"}, func(int, int) {})
	if err != nil {
		r.t.Fatal(err)
	}
	if !done.Done {
		r.t.Errorf("confirmed %+v", done)
	}
	r.t.Logf("carried out in %s", time.Since(began).Round(time.Millisecond))
}

// hurry has every deferred job tried now, until none is left.
func (r *relay) hurry() {
	r.t.Helper()
	world.WaitFor(r.t, "deferred jobs to be tried", func(ctx context.Context) error {
		left := 0
		err := r.Bus.ListJobs(ctx, func(e queue.JobEntry) error {
			left++
			if !e.Deferred() {
				return nil
			}
			if err := r.Bus.Expedite(ctx, e); err != nil && !errors.Is(err, queue.ErrMoved) {
				return err
			}
			return nil
		})
		if err == nil && left > 0 {
			err = fmt.Errorf("%d jobs are left", left)
		}
		return err
	})
}

// once checks that each of them got one copy.
func once(t *testing.T, got map[string]int, want []string) {
	t.Helper()
	wrong := 0
	for _, a := range want {
		if got[a] != 1 {
			if wrong++; wrong <= 10 {
				t.Errorf("%s got %d copies", a, got[a])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d got another number of copies than one", wrong, len(want))
	}
}
