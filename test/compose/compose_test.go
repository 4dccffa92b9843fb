//go:build compose

package compose

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCompose brings the set up once; what follows happens to it in order.
func TestCompose(t *testing.T) {
	p := startProject(t)
	p.docker("config", "--quiet")
	began := time.Now()
	p.docker("build")
	t.Logf("built in %s", time.Since(began).Round(time.Second))
	p.choosePort("POSTRIDER_RELAY_PORT", 2525)
	p.choosePort("POSTRIDER_SUBMISSION_PORT", 2587)
	began = time.Now()
	p.up(3, "--build")
	t.Logf("up and healthy in %s", time.Since(began).Round(time.Second))
	for _, step := range []struct {
		name string
		play func(*project)
	}{
		{"images hold the program and its libraries and nothing else", (*project).lean},
		{"the signer signs by OpenSSL if it was built with it", (*project).signed},
		{"containers may do nothing else", (*project).guarded},
		{"good mail arrives and bad mail comes back", (*project).mail},
		{"a worker is killed", (*project).killed},
		{"workers come and go under load", (*project).scaled},
		{"everything ends with mail in the queue", (*project).restarted},
		{"a bus that does not sync is refused", (*project).unsynced},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.play(p.on(t)) }) {
			p.complain()
			return
		}
	}
}

// guarded: no container can write to its image or gain a capability, and no
// program of ours is root.
func (p *project) guarded() {
	for _, service := range append([]string{"nats", "sink"}, services...) {
		for _, id := range p.containers(service) {
			got, err := p.inspect(id, "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Privileged}}")
			if want := "true [ALL] [no-new-privileges:true] false"; err != nil || got != want {
				p.t.Errorf("%s: %q, want %q, %v", service, got, want, err)
			}
			if processes := strings.Fields(p.run("docker", "top", id, "-o", "pid,uid")); service != "nats" && (len(processes) != 4 || processes[3] != "65532") {
				p.t.Errorf("%s has processes %v, want one of user 65532", service, processes)
			}
		}
	}
}

// mail: a batch goes its way, and the commands tell about it.
func (p *project) mail() {
	b := p.submit(&batch{name: "first"})
	b.wait(p)
	p.settled(1)
	b.expectArrived(p, nil)
	if out, exit := p.postrider("ledger", "balance"); exit != 0 || !strings.Contains(out, "It balances") {
		p.t.Errorf("ledger balance exits %d: %s", exit, out)
	}
	if out, exit := p.postrider("status"); exit != 0 {
		p.t.Errorf("status exits %d: %s", exit, out)
	}
}

// killed: what a worker had under way when it was killed is delivered by the
// others. What it had sent the final dot of and not recorded may arrive twice;
// the books say so.
func (p *project) killed() {
	b := p.submit(&batch{name: "killed", slow: true})
	b.begins(p)
	p.run("docker", "kill", p.containers("delivery")[0])
	b.wait(p)
	p.up(3)
	p.settled(2)
	b.expectArrived(p, p.possibleDuplicates())
}

// scaled: a worker that is told to stop finishes what it has under way, and
// one that joins takes over without doing anything again.
func (p *project) scaled() {
	b := p.submit(&batch{name: "shrunk", slow: true})
	b.begins(p)
	p.up(1)
	b.wait(p)
	p.settled(3)
	b.expectArrived(p, nil)

	b = p.submit(&batch{name: "grown", slow: true})
	b.begins(p)
	p.up(3)
	b.wait(p)
	p.settled(4)
	b.expectArrived(p, nil)
}

// restarted: the volumes keep the queue, the keys and the books.
func (p *project) restarted() {
	p.up(0)
	b := p.submit(&batch{name: "restarted"})
	b.wait(p)
	p.until("all of it to be queued", time.Minute, func() error {
		if total := p.balance().Total; total.Queued != 2*messages {
			return fmt.Errorf("%+v", total)
		}
		return nil
	})
	before := p.dkimRecords()
	p.docker("down")
	p.up(3)
	p.settled(5)
	b.expectArrived(p, nil)
	if after := p.dkimRecords(); !maps.Equal(before, after) {
		p.t.Errorf("DKIM keys changed from %v to %v", before, after)
	}
}

// unsynced: without sync_interval: always, 250 would not mean durable, and
// every service says so and ends.
func (p *project) unsynced() {
	p.docker("stop")
	shipped, err := os.ReadFile("../../deploy/nats/nats.conf")
	if err != nil {
		p.t.Fatal(err)
	}
	weak := strings.Replace(string(shipped), "\n  sync_interval: always\n", "\n", 1)
	if weak == string(shipped) {
		p.t.Fatal("nats.conf does not set sync_interval")
	}
	dir := p.t.TempDir()
	conf, override := filepath.Join(dir, "nats.conf"), filepath.Join(dir, "override.yml")
	for file, content := range map[string]string{
		conf:     weak,
		override: fmt.Sprintf("version: \"2.4\"\nservices: {nats: {volumes: [%q]}}\n", conf+":/etc/nats/nats.conf:ro"),
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	p.compose = append(p.compose, "--file", "docker-compose.yml", "--file", override)
	p.docker("up", "--detach", "--no-deps", "nats")
	for _, service := range services {
		_, err := p.once(service)
		if exitCode(err) != 2 || !strings.Contains(err.Error(), "sync_interval") {
			p.t.Errorf("%s exits %d, want 2 and the name of the setting: %v", service, exitCode(err), err)
		}
	}
}
