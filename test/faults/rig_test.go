//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/test/world"
)

const (
	// recipients of each message, and how many of them the mailbox refuses.
	recipients = 2
	bad        = 0.10
	// connections of devices that submit side by side, and how often one
	// tries again: until the relay is back.
	connections = 20
	retries     = 1000
	// sender gets the reports.
	sender = "device@sender.test"
	// delay is what the mailbox takes to answer a dot, so that there are
	// answers to lose.
	delay = 50 * time.Millisecond
)

// domains of the recipients; each is a destination of its own.
// They are many, so that each worker of delivery has some.
var domains = strings.Fields("a.test b.test c.test d.test e.test f.test g.test h.test i.test j.test k.test l.test")

// rig is a relay with devices before it and a mailbox behind it.
type rig struct {
	*testing.T
	relay *world.Relay
	bin   string
	smtp  string
	// work is how far the relay has come.
	work *work
	// spans are the faults so far.
	spans []span
	// journals are those of the loads so far.
	journals []string
}

// start starts everything, on so many nats-servers.
func start(t *testing.T, nodes int) *rig {
	t.Helper()
	addresses := porttest.Addresses(t, 2)
	r := &rig{T: t, bin: world.Binaries(t), smtp: addresses[0]}
	mailbox := addresses[1]
	world.StartProcess(t, "sink", nil, filepath.Join(r.bin, "loadtest"), "sink", "--listen", mailbox,
		"--journal", r.path("sink"), "--transactions", r.path("transactions"), "--delay", delay.String())
	nats := world.StartNATS
	if nodes > 1 {
		nats = world.StartCluster
	}
	c := configuration(filepath.Join(t.TempDir(), "data"), r.smtp, mailbox)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r.relay = world.Launch(t, c, nats(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always"), 2)
	for _, p := range r.relay.Processes() {
		p.Supervise(t)
	}
	r.relay.Ready(t)
	r.work = &work{sink: &tail{path: r.path("sink")}}
	return r
}

func configuration(data, smtp, mailbox string) *config.Config {
	c := config.Defaults()
	c.Relay = config.Relay{Hostname: "relay.test", Data: data}
	c.Listeners = []config.Listener{{Name: "devices", Address: smtp, Mode: config.ModeRelay}}
	c.Networks.Campus = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, name := range append([]string{"sender.test"}, domains...) {
		c.Domains.Hosted = append(c.Domains.Hosted, config.Hosted{Name: name, Route: "smtp://" + mailbox})
	}
	c.Limits.MessagesPerSession.Relay = 1_000_000
	second := config.Duration(time.Second)
	c.Delivery.Retry = []config.Duration{2 * second, 5 * second, 10 * second}
	c.Ledger.TokenHeader = "X-Ledger"
	c.Metrics.Address, c.Console.Address = "", ""
	return c
}

// path is a file among the artifacts.
func (r *rig) path(witness string) string { return filepath.Join(r.ArtifactDir(), witness+".jsonl") }

// load is devices that submit.
type load struct {
	r    *rig
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
	end  error
	done chan struct{}
}

// submit lets devices submit so many messages, which they try so often. Each
// thinks for a while before its next one.
func (r *rig) submit(name string, seed uint64, messages, tries int, think time.Duration) *load {
	r.Helper()
	l := &load{r: r, name: name, done: make(chan struct{})}
	args := []string{"generate", "--server", r.smtp, "--messages", strconv.Itoa(messages), "--recipients", strconv.Itoa(recipients),
		"--bad", strconv.FormatFloat(bad, 'f', 2, 64), "--connections", strconv.Itoa(connections), "--retries", strconv.Itoa(tries - 1),
		"--sender", sender, "--think", think.String(), "--seed", strconv.FormatUint(seed, 10), "--journal", r.path(name), "-o", "json"}
	for _, domain := range domains {
		args = append(args, "--domain", domain)
	}
	l.cmd = exec.CommandContext(r.Context(), filepath.Join(r.bin, "loadtest"), args...)
	progress, err := os.Create(filepath.Join(r.ArtifactDir(), name+".log"))
	if err != nil {
		r.Fatal(err)
	}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, progress
	if err := l.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	go func() {
		defer close(l.done)
		defer progress.Close()
		l.end = l.cmd.Wait()
	}()
	r.journals = append(r.journals, r.path(name))
	r.work.expect(&tail{path: r.path(name)}, messages)
	r.Cleanup(func() { <-l.done })
	return l
}

// summary is what the devices were told in all.
type summary struct {
	Accepted  int            `json:"accepted"`
	Refused   int            `json:"refused"`
	Temporary int            `json:"temporary"`
	Lost      int            `json:"lost"`
	GaveUp    int            `json:"gave_up"`
	Seconds   float64        `json:"seconds"`
	Replies   map[string]int `json:"replies"`
}

// wait waits until every device has its answer.
func (l *load) wait() summary {
	l.r.Helper()
	<-l.done
	var s summary
	if err := json.Unmarshal(l.out.Bytes(), &s); err != nil {
		l.r.Fatalf("%s: %v: %v", l.name, l.end, err)
	}
	return s
}

// accepted waits, and wants all messages accepted in the end.
func (l *load) accepted(messages int) {
	l.r.Helper()
	s := l.wait()
	if s.Accepted != messages {
		l.r.Errorf("%s: %d messages were accepted of %d: %+v", l.name, s.Accepted, messages, s)
	}
	l.r.Logf("%s: %d accepted in %.1f s, %d told to come again, %d without an answer", l.name, s.Accepted, s.Seconds, s.Temporary, s.Lost)
}

// errExit is a program that ended with another exit code than 0.
type errExit struct {
	code int
	said string
}

func (e *errExit) Error() string { return fmt.Sprintf("exit code %d: %s", e.code, e.said) }

// run runs a program to its end and returns what it wrote.
func (r *rig) run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, program), args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &errExit{exit.ExitCode(), complaint.String()}
	}
	return out.String(), err
}
