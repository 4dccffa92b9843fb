package world

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// services are the programs of a relay of separate processes.
var services = []string{"ledger", "ingress", "policy", "signer", "delivery", "bounce"}

// Relay is a relay of separate processes. Each can be killed, stopped, and
// started again.
type Relay struct {
	// File is the configuration of all.
	File string
	NATS NATS
	// Services are named after their programs; a second process of one
	// service is named delivery-2.
	Services []*Member
}

// Member is one process of a service.
type Member struct {
	*Process
	// Health is the address of its health endpoint.
	Health string
}

// Ready is nil when the service says that it does its work. It is a
// *NotReadyError when it says that it does not.
func (m *Member) Ready(ctx context.Context) error { return get(ctx, "http://"+m.Health+"/readyz") }

// NotReadyError is the answer of a service that cannot do its work.
type NotReadyError struct{ Status, Reason string }

// Error is what the service said.
func (e *NotReadyError) Error() string { return e.Status + ": " + e.Reason }

// Launch starts the services of a relay on nats-servers that run, with so many
// workers of delivery. They are not ready yet.
func Launch(t testing.TB, c *config.Config, nats NATS, workers int) *Relay {
	t.Helper()
	bin := Binaries(t)
	c.Bus.URL, c.Bus.Credentials, c.Bus.SystemCredentials = nats.URL, nats.Credentials, nats.SystemCredentials
	r := &Relay{File: filepath.Join(t.TempDir(), "postrider.yaml"), NATS: nats}
	write(t, r.File, c.String())
	start := func(program, name string) {
		health := porttest.Address(t)
		env := []string{"POSTRIDER_METRICS=" + health, "POSTRIDER_LOG=info"}
		r.Services = append(r.Services, &Member{StartProcess(t, name, env, filepath.Join(bin, program), "--config", r.File), health})
	}
	for _, name := range services {
		start(name, name)
	}
	for n := 2; n <= workers; n++ {
		start("delivery", "delivery-"+strconv.Itoa(n))
	}
	return r
}

// Ready waits until every service does its work.
func (r *Relay) Ready(t testing.TB) {
	t.Helper()
	for _, m := range r.Services {
		WaitFor(t, m.Name+" to be ready", m.Ready)
	}
}

// Service is the process of that name.
func (r *Relay) Service(t testing.TB, name string) *Member {
	t.Helper()
	i := slices.IndexFunc(r.Services, func(m *Member) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no service is named %s", name)
	}
	return r.Services[i]
}

// Processes are all of them, the nats-servers first.
func (r *Relay) Processes() []*Process {
	var out []*Process
	for _, n := range r.NATS.Nodes {
		out = append(out, n.Process)
	}
	for _, m := range r.Services {
		out = append(out, m.Process)
	}
	return out
}

// Connect connects to the relay's bus, until the test ends.
func (r *Relay) Connect(t testing.TB) *queue.Bus {
	t.Helper()
	bus, err := queue.Connect(queue.Connection{URL: r.NATS.URL, Credentials: r.NATS.Credentials, Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}
