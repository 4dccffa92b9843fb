package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/telemetry"
)

func TestStatus(t *testing.T) {
	r := start(t)
	r.ok("trace", r.deferred("450@inet.test")) // which waits for the index
	if got := r.ok("status"); !strings.HasPrefix(got, "relay.campus.test  bus postrider ") || !strings.Contains(got, "+ Nothing is wrong.") || !strings.Contains(got, " 1 queued") {
		t.Errorf("status:\n%s", got)
	}
	var h health
	if err := json.Unmarshal([]byte(r.ok("status", "-o", "json")), &h); err != nil {
		t.Fatal(err)
	}
	if len(h.Stages) != 4 || h.Problems == nil || h.Ledger == nil || h.Ledger.States["queued"] != 1 {
		t.Errorf("status %+v", h)
	}
	for _, s := range h.Stages {
		if s.Missing {
			t.Errorf("stage %+v", s)
		}
	}
	r.fails(2, "choose one of table|json", "status", "-o", "csv")
}

// Under load a service must not look dead between two requests.
func TestStatusUnderLoad(t *testing.T) {
	r := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		for ctx.Err() == nil {
			if _, err := submit(t, r.smtp, "127.0.0.1", login{}, "anna@inet.test"); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 100 {
		if got := r.do("status"); got.code != 0 {
			t.Errorf("exits %d:\n%s%s", got.code, got.stdout, got.err)
			break
		}
	}
	cancel()
	<-idle
}

// partial is a bus with only the named services.
func partial(t *testing.T, services ...service.Service) *relay {
	t.Helper()
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml")}
	write(t, r.file, fmt.Sprintf("relay: {hostname: relay.campus.test, data: %q}\nmetrics: {address: \"\"}\n", filepath.Join(filepath.Dir(r.file), "data")))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	bus, _, stop, err := openBus(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if len(services) == 0 {
		return r
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ended := service.NewGroup(services...), make(chan error, 1)
	go func() {
		ended <- group.Run(ctx, service.Env{Config: cfg, Bus: bus, Log: log, Metrics: telemetry.NewRegistry(), Instance: "test"})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-group.Ready():
	case <-time.After(patience):
		t.Fatal(group.Check())
	}
	return r
}

func TestStatusWithoutServices(t *testing.T) {
	r := partial(t, ledger.Service)
	got := r.do("status")
	if got.code != 10 || got.err != "" {
		t.Errorf("status: %+v", got)
	}
	for _, stage := range []string{"policy", "signer", "delivery", "bounce"} {
		if !strings.Contains(got.stdout, "x "+stage+" does not work: start it (postrider run "+stage+")") {
			t.Errorf("%s is not missed:\n%s", stage, got.stdout)
		}
	}
	got = r.do("status", "-o", "json")
	var h health
	if err := json.Unmarshal([]byte(got.stdout), &h); err != nil || got.code != 10 || len(h.Problems) != 4 || h.Ledger == nil {
		t.Errorf("status as JSON: %+v %v", got, err)
	}
}

func TestWithoutLedger(t *testing.T) {
	r := partial(t)
	if got := r.do("status"); got.code != 10 || !strings.Contains(got.stdout, "x ledger does not answer: start it (postrider run ledger)") {
		t.Errorf("status: %+v", got)
	}
	for _, args := range [][]string{{"trace", "a@b.test"}, {"ledger", "balance"}, {"ledger", "export", "-o", "json"}} {
		r.fails(6, "Is the ledger service running? See: postrider status", args...)
	}
}

// onBus are commands that need a running relay.
var onBus = [][]string{
	{"status"}, {"trace", "a@b.test"}, {"queue", "ls"}, {"queue", "retry", "--all"}, {"ledger", "balance"}, {"ledger", "export", "-o", "json"},
	{"device", "ls", "-o", "json"}, {"device", "show", "a.test"}, {"device", "request", "a.test"}, {"device", "approve", "a.test"},
	{"credential", "add", "x", "--device", "a.test"}, {"credential", "rm", "x"},
}

func TestNoRelay(t *testing.T) {
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml")}
	data := filepath.Join(filepath.Dir(r.file), "data")
	write(t, r.file, fmt.Sprintf("relay: {hostname: relay.campus.test, data: %q}\n", data))
	for _, args := range onBus {
		r.fails(6, "Start it with: postrider up", args...)
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a command made the data directory: %v", err)
	}
	// A relay that was killed leaves its bus.json behind.
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(data, "bus.json"), fmt.Sprintf(`{"url": "nats://%s", "credentials": "postrider:x", "pid": 1}`, porttest.Address(t)))
	for _, args := range onBus {
		r.fails(6, "Start it with: postrider up", args...)
	}
	write(t, r.file, fmt.Sprintf("relay: {hostname: relay.campus.test, data: %q}\nbus: {url: \"nats://%s\"}\n", data, porttest.Address(t)))
	r.fails(6, "unreachable: connect to the bus at nats://127.0.0.1:", "status")
}

func TestUpConflicts(t *testing.T) {
	r := start(t)
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := up(t.Context(), cfg, io.Discard); !errors.Is(err, natsd.ErrInUse) || service.ExitCode(err) != service.ExitConflict {
		t.Errorf("a second relay on the same data: %v", err)
	}
	cfg.Relay.Data = t.TempDir()
	if err := up(t.Context(), cfg, io.Discard); service.ExitCode(err) != service.ExitConflict || !strings.Contains(err.Error(), "Is another postrider or mail server running there?") {
		t.Errorf("a second relay on the same ports: %v", err)
	}
	cfg.Sandbox = true
	if err := up(t.Context(), cfg, io.Discard); !errors.Is(err, natsd.ErrPurpose) || service.ExitCode(err) != service.ExitUsage {
		t.Errorf("a sandbox on the data of a relay: %v", err)
	}
	r.ok("status")
}

// A relay that says that it is ready is: every stage waits for messages at the
// first look.
func TestReadyIsReady(t *testing.T) {
	r := start(t)
	_, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	stages, err := readStages(t.Context(), bus)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stages {
		if s.absent() {
			t.Errorf("%s does not work", s.Stage)
		}
	}
}

func TestRun(t *testing.T) {
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml")}
	write(t, r.file, "relay: {hostname: relay.campus.test}\n")
	r.fails(2, "bus.url is empty", "run", "signer")
	r.fails(2, `no service is called "sinner"; there are: ledger ingress policy signer delivery bounce`, "run", "sinner")
	r.fails(2, "requires at least 1 arg", "run")
}

// Commands read what MAIL and the others hold with the streams that up makes.
func TestStagesOfStreams(t *testing.T) {
	stages := stagesOfStreams()
	if len(stages) != queue.Shards+3 || stages[queue.MailStream(queue.Shards-1)] != "policy" {
		t.Errorf("%v", stages)
	}
}

// What the books do not do as they should is a problem, and says what next.
func TestProblemsOfTheBooks(t *testing.T) {
	for want, s := range map[string]books.Status{
		"the ledger does not follow, 7 records behind: database or disk is full": {Seq: 3, Last: 10, Stuck: "database or disk is full"},
		"the books do not balance, by 2 recipients: postrider ledger balance":    {Residual: 2},
		"settled content is kept 1h0m5s too long, behind message 12 of MAIL_2":   {Overdue: &books.Overdue{Stream: "MAIL_2", Seq: 12, Seconds: 3605}},
	} {
		if got := problemsOf(&s); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%+v: %q", s, got)
		}
	}
	if got := problemsOf(&books.Status{}); len(got) != 0 {
		t.Errorf("nothing is wrong, but %q", got)
	}
}

// Who only looks through a stream has nothing waiting.
func TestReadStages(t *testing.T) {
	bus := queuetest.Start(t)
	const waiting = 3
	for i := range waiting {
		if _, err := bus.Publish(t.Context(), queue.MailSubject(mail.LaneNormal, 0), fmt.Sprint(i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, config := range []jetstream.ConsumerConfig{{Durable: "policy", AckPolicy: jetstream.AckExplicitPolicy}, {AckPolicy: jetstream.AckNonePolicy}} {
		if _, err := bus.JS.CreateConsumer(t.Context(), queue.MailStream(0), config); err != nil {
			t.Fatal(err)
		}
	}
	stages, err := readStages(t.Context(), bus)
	if err != nil {
		t.Fatal(err)
	}
	if got := stages[0]; got.Stage != "policy" || got.Waiting != waiting {
		t.Errorf("%+v, want %d waiting", got, waiting)
	}
}
