//go:build compose

package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
)

// services are the parts of the relay, each a container of its own.
var services = []string{"ingress", "policy", "signer", "delivery", "bounce", "ledger"}

// project is the compose set under a name of its own.
type project struct {
	*engine
	name    string
	compose []string // docker-compose, or docker compose
}

// startProject prepares the project and its end; it does not bring it up.
func startProject(t *testing.T) *project {
	p := &project{engine: startEngine(t), name: "postrider-test-" + strconv.Itoa(os.Getpid()), compose: []string{"docker-compose"}}
	if _, err := exec.LookPath("docker-compose"); err != nil {
		p.compose = []string{"docker", "compose"}
	}
	t.Logf("compose %s", p.docker("version", "--short"))
	p.provideImages()
	p.clean(p.compose[0], p.arguments("--profile", "tools", "down", "--volumes", "--remove-orphans", "--rmi", "local")...)
	return p
}

// choosePort takes another port than the usual one when that is not free.
func (p *project) choosePort(variable string, usual int) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(usual)))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			p.t.Fatal(err)
		}
		p.t.Logf("port %d is taken: %s is published instead", usual, l.Addr())
		p.env = append(p.env, variable+"="+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	l.Close()
}

// arguments are those of a compose command of the project, after its program.
func (p *project) arguments(args ...string) []string {
	return slices.Concat(p.compose[1:], []string{"--project-name", p.name}, args)
}

// docker runs a compose command that must succeed.
func (p *project) docker(args ...string) string {
	p.t.Helper()
	return p.run(p.compose[0], p.arguments(args...)...)
}

// on gives the project to a subtest.
func (p *project) on(t *testing.T) *project {
	e := *p.engine
	e.t = t
	return &project{engine: &e, name: p.name, compose: p.compose}
}

// up starts the set with so many delivery workers and waits until every
// service says that it does its work.
func (p *project) up(delivery int, args ...string) {
	p.t.Helper()
	p.docker(append([]string{"up", "--detach", "--scale", "delivery=" + strconv.Itoa(delivery)}, args...)...)
	p.until("every service to be healthy", 2*time.Minute, func() error {
		for _, s := range services {
			want := 1
			if s == "delivery" {
				want = delivery
			}
			ids := p.containers(s)
			if len(ids) != want {
				return fmt.Errorf("%d containers of %s, want %d", len(ids), s, want)
			}
			for _, id := range ids {
				if health, err := p.inspect(id, "{{.State.Status}} {{.State.Health.Status}}"); err != nil || health != "running healthy" {
					return fmt.Errorf("%s is %s, %w", s, health, err)
				}
			}
		}
		return nil
	})
}

// containers are those of a service that run.
func (p *project) containers(service string) []string {
	p.t.Helper()
	return strings.Fields(p.run("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.project="+p.name,
		"--filter", "label=com.docker.compose.oneoff=False", "--filter", "label=com.docker.compose.service="+service))
}

// inspect is a fact about a container.
func (p *project) inspect(id, format string) (string, error) {
	out, err := p.try(p.ctx, nil, "docker", "inspect", "--type", "container", "--format", format, id)
	return strings.TrimSpace(out), err
}

// postrider runs the people's program beside the relay. What it wrote to its
// standard error is in the log when it says no.
func (p *project) postrider(args ...string) (stdout string, exit int) {
	p.t.Helper()
	out, err := p.once("postrider", args...)
	if err != nil {
		p.t.Log(err)
	}
	return out, exitCode(err)
}

// once runs a service to its end, in a container of its own.
func (p *project) once(service string, args ...string) (stdout string, err error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Minute)
	defer cancel()
	return p.try(ctx, nil, p.compose[0], p.arguments(slices.Concat([]string{"run", "--rm", "-T", "--no-deps", service}, args)...)...)
}

// exitCode is that of a command that ended by itself, else -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// settled waits until the books have so many batches and none of it is queued,
// and checks that they say what became of each recipient.
func (p *project) settled(batches int) {
	p.t.Helper()
	var b *books.Balance
	p.until(fmt.Sprintf("%d batches to be settled", batches), 3*time.Minute, func() error {
		if b = p.balance(); b.Total.Accepted < batches*(2*messages+bad) || b.Total.Queued > 0 || b.Arriving > 0 {
			return fmt.Errorf("%+v, %d arriving", b.Total, b.Arriving)
		}
		return nil
	})
	want := books.BalanceRow{Accepted: batches * (2*messages + bad), Delivered: batches * 2 * messages, Bounced: batches * bad}
	got := b.Total
	got.Owner, got.Destination = "", ""
	if got != want {
		p.t.Errorf("books say %+v, want %+v", got, want)
	}
}

// balance is what the books say; they must balance.
func (p *project) balance() *books.Balance {
	p.t.Helper()
	out, exit := p.postrider("ledger", "balance", "-o", "json")
	var b books.Balance
	if err := json.Unmarshal([]byte(out), &b); err != nil || exit != 0 || !b.Balances() || b.Conflicts > 0 || b.Unreadable > 0 {
		p.t.Fatalf("ledger balance exits %d: %s", exit, out)
	}
	return &b
}

// complain puts the end of every container's log into that of the test.
func (p *project) complain() {
	p.t.Helper()
	p.t.Logf("containers:\n%s\n%s", p.docker("ps"), p.docker("logs", "--no-color", "--tail", "10"))
}
