//go:build crashpoints

package crashpoints

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// patience is how long the relay may take for anything.
const patience = 60 * time.Second

// services are the programs of a relay, in the order in which they start.
var services = []string{"ledger", "ingress", "policy", "signer", "delivery", "bounce"}

// relay is a relay whose services can be killed one by one.
type relay struct {
	*world.World
	programs map[string]*program
	mx       *smtptest.MX
	probes   int  // made so far
	large    bool // the next probes have contents that lie in chunks
	results  []result
}

// newRelay makes a relay whose mail for campus.test, the senders' domain, goes
// to an MX without TLS: so it can be read what delivery was about to write.
func newRelay(t *testing.T) *relay {
	t.Helper()
	r := &relay{programs: map[string]*program{}, mx: smtptest.Start(t, smtptest.Options{NoTLS: true})}
	r.World = world.New(t, r.run, func(c *config.Config) {
		c.Domains.Hosted = []config.Hosted{{Name: "campus.test", Route: "smtp://" + r.mx.Addr()}}
	})
	return r
}

// run is the driver of the world.
func (r *relay) run(t testing.TB, w *world.World) {
	t.Helper()
	server := world.StartNATS(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always")
	w.Config.Bus.URL, w.Config.Bus.Credentials, w.Config.Bus.SystemCredentials = server.URL, server.Credentials, server.SystemCredentials
	dir := t.TempDir()
	file := filepath.Join(dir, "postrider.yaml")
	if err := os.WriteFile(file, []byte(w.Config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := world.Binaries(t)
	for _, name := range services {
		log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		p := &program{name: name, args: []string{filepath.Join(bin, name), "--config", file}, health: porttest.Address(t), log: log}
		t.Cleanup(func() { p.close(t) })
		p.run(t)
		r.programs[name] = p
	}
	bus, err := queue.Connect(queue.Connection{URL: server.URL, Credentials: server.Credentials, Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	w.Bus = bus
}

// sources are the streams whose messages a service acknowledges.
func sources(service string) []string {
	switch service {
	case "policy":
		var all []string
		for n := range queue.Shards {
			all = append(all, queue.MailStream(n))
		}
		return all
	case "signer":
		return []string{queue.StreamAdmitted}
	case "delivery":
		return []string{queue.StreamDeliver}
	case "bounce":
		return []string{queue.StreamReport}
	}
	return nil
}

// overdue is the acknowledgement deadline of a service that is known to be
// dead. Its own, which it sets at start, is for one that may be alive.
const overdue = 100 * time.Millisecond

// bury makes the server see that a service is dead: what it had not
// acknowledged is overdue, and its partitions are free.
func (r *relay) bury(t *testing.T, service string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range sources(service) {
		stream, err := r.Bus.JS.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		list := stream.ListConsumers(ctx)
		for info := range list.Info() {
			if info.NumAckPending == 0 {
				continue
			}
			info.Config.AckWait = overdue
			if _, err := stream.UpdateConsumer(ctx, info.Config); err != nil {
				t.Fatal(err)
			}
		}
		if list.Err() != nil {
			t.Fatal(list.Err())
		}
	}
	if service == "delivery" {
		if err := queue.ForgetWorkers(ctx, r.Bus.JS); err != nil {
			t.Fatal(err)
		}
	}
}

// quiet waits until the books balance and nothing is queued or arriving, or
// until the service is dead. It looks twice: what the first look saw settled
// may just have made a report, which only the second is sure to meet.
func (r *relay) quiet(t *testing.T, victim *program) {
	t.Helper()
	looks := 0
	world.WaitFor(t, "quiet", func(ctx context.Context) error {
		ctx, cancel := victim.context(ctx)
		defer cancel()
		b, err := books.Client(r.Bus).Balance(ctx, books.BalanceQuestion{})
		switch {
		case victim.gone():
			return nil
		case err != nil:
			return err
		case b.Total.Queued > 0 || b.Arriving > 0 || !b.Balances():
			looks = 0
			return fmt.Errorf("%d queued, %d arriving, residual %d: %+v", b.Total.Queued, b.Arriving, b.Residual, b.Offending)
		case b.Conflicts > 0 || b.Unreadable > 0:
			t.Errorf("books have conflicts: %+v", b)
		}
		if looks++; looks < 2 {
			return errors.New("looked once")
		}
		return nil
	})
}
