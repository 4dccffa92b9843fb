//go:build estate

package estate

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/test/world"
)

const size = 3000 // senders

// TestPostfix: 3,000 senders ask a Postfix and the relay that imported it.
func TestPostfix(t *testing.T) {
	e := newEstate(size)
	port := porttest.Shared(t, "127.0.0.1")
	dir := startPostfix(t, e, port)
	r := startRelay(t, "")
	list := r.imports(t, "postfix", dir)
	theirs := ask(t, fmt.Sprintf("127.0.0.1:%d", port), e.senders)
	compare(t, e.senders, theirs, ask(t, r.smtp, e.senders), list)
}

// TestExchange: the same senders, as receive connectors. Those that Exchange
// cannot tell apart from strangers reach the accepted domains, by its default
// connector.
func TestExchange(t *testing.T) {
	e := newEstate(size)
	file := filepath.Join(t.TempDir(), "connectors.xml")
	if err := os.WriteFile(file, []byte(e.clixml()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, "domains: {hosted: [{name: campus.test}]}\n")
	list := r.imports(t, "exchange", file)
	for i := range e.senders { // a connector looks at the address only
		s := &e.senders[i]
		s.from, s.to = regular, recipients
		s.unnamed = !slices.Contains(e.anywhere, s.address) && !slices.Contains(e.hosted, s.address)
	}
	var theirs [][]string
	for _, s := range e.senders {
		if slices.Contains(e.anywhere, s.address) {
			theirs = append(theirs, []string{yes, yes})
		} else {
			theirs = append(theirs, []string{yes, no})
		}
	}
	compare(t, e.senders, theirs, ask(t, r.smtp, e.senders), list)
}

// relay is a running relay and its commands.
type relay struct{ program, file, smtp string }

func startRelay(t *testing.T, more string) *relay {
	t.Helper()
	dir, addresses := t.TempDir(), porttest.Addresses(t, 2)
	r := &relay{filepath.Join(world.Binaries(t), "postrider"), filepath.Join(dir, "postrider.yaml"), addresses[0]}
	text := fmt.Sprintf("relay: {hostname: relay.campus.test, data: %s}\nlisteners: [{name: devices, address: %q, mode: relay}]\nmetrics: {address: %q}\nconsole: {address: \"\"}\n%s",
		filepath.Join(dir, "data"), r.smtp, addresses[1], more)
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	world.StartProcess(t, "postrider up", []string{"POSTRIDER_LOG=warn"}, r.program, "up", "--config", r.file)
	world.WaitFor(t, "the relay", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.smtp)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return r
}

// line is one of the account of an import.
type line struct {
	File, Text, Fate, Why, Concerns string
	Line                            int
}

func (l line) String() string { return fmt.Sprintf("%s:%d %s: %s", l.File, l.Line, l.Text, l.Why) }

// imports imports a file, and returns what did not translate, once the relay
// answers by it.
func (r *relay) imports(t *testing.T, kind, path string) (untranslated []line) {
	t.Helper()
	command := []string{"device", "import", kind, path, "--config", r.file, "-o", "json"}
	var plan struct {
		Plan    string
		Done    bool
		Added   []string
		Refused []struct{ Entry, Why string }
		Lines   []line
	}
	read := func(args ...string) {
		t.Helper()
		if err := json.Unmarshal([]byte(run(t, r.program, args...)), &plan); err != nil {
			t.Fatal(err)
		}
	}
	read(command...)
	began := time.Now()
	read(append(command, "--confirm", plan.Plan)...)
	t.Logf("%d entries imported in %v", len(plan.Added), time.Since(began).Round(time.Millisecond))
	if !plan.Done || len(plan.Refused) > 0 {
		t.Fatalf("done %v, refused %v", plan.Done, plan.Refused)
	}
	for _, l := range plan.Lines {
		if l.Fate == "untranslated" {
			untranslated = append(untranslated, l)
		}
	}
	r.settle(t)
	return untranslated
}

// settle waits until a registration that was made after all others holds.
func (r *relay) settle(t *testing.T) {
	t.Helper()
	const name, address = "last.campus.test", "127.99.9.9"
	run(t, r.program, "device", "request", name, "--address", address, "--any-network", "--reason", "the end of the import", "--config", r.file)
	run(t, r.program, "device", "approve", name, "--any-network", "--reason", "the end of the import", "--config", r.file)
	world.WaitFor(t, "the import to hold", func(ctx context.Context) error {
		said, err := session(ctx, r.smtp, sender{address: address, from: regular, to: recipients})
		if err == nil && said[1] != yes {
			err = fmt.Errorf("%s says %q", address, said)
		}
		return err
	})
}

// compare wants the same answers from both, or a line that concerns the
// sender.
func compare(t *testing.T, senders []sender, theirs, ours [][]string, list []line) {
	t.Helper()
	type tally struct{ same, listed, admitted int }
	kinds := map[string]*tally{}
	for i, s := range senders {
		k := kinds[s.kind]
		if k == nil {
			k = &tally{}
			kinds[s.kind] = k
		}
		for j, to := range s.to {
			if ours[i][j] == yes {
				k.admitted++
			}
			if theirs[i][j] == ours[i][j] {
				k.same++
				continue
			}
			if l, ok := explained(s, to, list); ok {
				k.listed++
				if k.listed == 1 {
					t.Logf("%s, %s to %s: %s there, %s here: %s", s.kind, s.address, to, theirs[i][j], ours[i][j], l)
				}
				continue
			}
			t.Errorf("%s: %s as %s to %s: %s there, %s here, and nothing in the list says so", s.kind, s.address, s.from, to, theirs[i][j], ours[i][j])
		}
	}
	for _, shape := range senders[:len(shapes)] {
		k := kinds[shape.kind]
		t.Logf("%-16s %5d answers the same, %4d different and in the list; %4d admitted", shape.kind, k.same, k.listed, k.admitted)
	}
}

// explained finds a line of the list that concerns a sender.
func explained(s sender, to string, list []line) (line, bool) {
	for _, l := range list {
		for concerns := range strings.FieldsSeq(l.Concerns) {
			if concerned(s, to, concerns) {
				return l, true
			}
		}
	}
	return line{}, false
}

func concerned(s sender, to, concerns string) bool {
	switch {
	case concerns == "*":
		return s.wild
	case concerns == "unnamed":
		return s.unnamed
	}
	if p, err := netip.ParsePrefix(concerns); err == nil {
		return p.Contains(netip.MustParseAddr(s.address))
	}
	for _, address := range []string{s.from, to} {
		_, domain, _ := strings.Cut(address, "@")
		if concerns == address || concerns == domain || strings.HasPrefix(concerns, ".") && strings.HasSuffix(domain, concerns) {
			return true
		}
	}
	return concerns == s.address
}
