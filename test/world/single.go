package world

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/shared/porttest"
)

// Single is a relay in one process, as `postrider up` runs it, that delivers
// all mail to the sink of loadtest. The sink is the test's to start.
type Single struct {
	// File is the configuration, Data the data directory.
	File, Data string
	// Postrider and Loadtest are programs.
	Postrider, Loadtest string
	// SMTP takes mail from all of 127.0.0.0/8, Sink is where mail for load.test
	// and reports to sender.test go, Metrics answers /metrics and /readyz.
	SMTP, Sink, Metrics string
}

// StartSingle starts one, with more lines of configuration, and returns when it
// is ready.
func StartSingle(t testing.TB, more string) *Single {
	t.Helper()
	bin, dir, addresses := Binaries(t), t.TempDir(), porttest.Addresses(t, 3)
	r := &Single{
		File: filepath.Join(dir, "postrider.yaml"), Data: filepath.Join(dir, "data"),
		Postrider: filepath.Join(bin, "postrider"), Loadtest: filepath.Join(bin, "loadtest"),
		SMTP: addresses[0], Sink: addresses[1], Metrics: addresses[2],
	}
	write(t, r.File, fmt.Sprintf(`
relay: {hostname: relay.test, data: %s}
listeners: [{name: devices, address: %q, mode: relay}]
networks: {campus: [127.0.0.0/8]}
domains:
  hosted:
    - {name: load.test, route: "smtp://%s"}
    - {name: sender.test, route: "smtp://%s"}
limits: {messages_per_session: {relay: 1000000}}
delivery: {retry: [2s, 5s, 10s]}
ledger: {token_header: X-Ledger}
metrics: {address: %q}
%s`, r.Data, r.SMTP, r.Sink, r.Sink, r.Metrics, more))
	StartProcess(t, "postrider up", []string{"POSTRIDER_LOG=warn"}, r.Postrider, "up", "--config", r.File)
	WaitFor(t, "the relay to be ready", func(ctx context.Context) error { return get(ctx, "http://"+r.Metrics+"/readyz") })
	return r
}
