//go:build estate

package estate

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// TestReading: what we read in the files is what Postfix reads in them.
func TestReading(t *testing.T) {
	e := newEstate(300)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	main := strings.ReplaceAll(mainCF, "%[1]s", dir) + `
mine = a
  b
# within

  ${campus}
conditional = ${mine?{has $mine}:{has none}} ${absent:none} ${{a} == {b} ? {same} : {other}} $$5
`
	write("main.cf", main+"\nuser = $conditional\n")
	write("master.cf", masterCF)
	for name, text := range e.files {
		write(name, text.String())
	}
	t.Run("main.cf", func(t *testing.T) { readMain(t, dir) })
	t.Run("tables by key", func(t *testing.T) { readKeys(t, dir, e) })
	t.Run("tables of networks", func(t *testing.T) { readNetworks(t, dir, e) })
}

func readMain(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "main.cf"))
	if err != nil {
		t.Fatal(err)
	}
	ours, n := postfixconf.ReadMain("main.cf", text), 0
	for l := range strings.Lines(run(t, "/usr/sbin/postconf", "-c", dir, "-xn")) {
		name, value, _ := strings.Cut(strings.TrimSpace(l), " =")
		if name == "config_directory" { // that of -c
			continue
		}
		got, err := ours.Get(name)
		if one(got) != one(value) || err != nil {
			t.Errorf("%s = %q, and Postfix reads %q (%v)", name, got, value, err)
		}
		n++
	}
	if n < 25 {
		t.Errorf("%d parameters were compared", n)
	}
}

// one is a value with its white space brought together.
func one(s string) string { return strings.Join(strings.Fields(s), " ") }

func readKeys(t *testing.T, dir string, e *estate) {
	for name := range e.files {
		if strings.Contains(name, ".") {
			continue
		}
		path := filepath.Join(dir, name)
		run(t, "/usr/sbin/postmap", "-c", dir, "hash:"+path)
		theirs := map[string]string{}
		for l := range strings.Lines(run(t, "/usr/sbin/postmap", "-c", dir, "-s", "hash:"+path)) {
			key, value, _ := strings.Cut(strings.TrimSpace(l), "\t")
			theirs[key] = value
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		entries := postfixconf.ReadTable(postfixconf.Indexed, name, text)
		if len(entries) != len(theirs) || len(entries) == 0 {
			t.Errorf("%s: %d entries, and Postfix has %d", name, len(entries), len(theirs))
		}
		for _, entry := range entries {
			if theirs[entry.Key] != entry.Value {
				t.Errorf("%s: %s is %q, and in Postfix %q", name, entry.Key, entry.Value, theirs[entry.Key])
			}
		}
	}
}

// networks has what the order of a table can do.
const networks = `
10.2.3.4 one
!10.0.0.0/8 outside
if 10.4.0.0/16
10.4.1.0/24 inner
!10.4.2.0/24 rest
endif
10.9.9.9/8 ignored
10.0.0.0/8 campus
`

func readNetworks(t *testing.T, dir string, e *estate) {
	addresses := []string{"10.2.3.4", "10.2.3.5", "192.0.2.1", "10.4.1.7", "10.4.2.7", "10.4.3.7", "10.9.9.9"}
	e.line("networks", "%s", networks)
	for _, s := range e.senders {
		addresses = append(addresses, s.address)
	}
	for _, name := range []string{"client.cidr", "networks"} {
		text := e.files[name].String()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/usr/sbin/postmap", "-c", dir, "-q", "-", "cidr:"+path)
		cmd.Stdin = strings.NewReader(strings.Join(addresses, "\n") + "\n")
		out, err := cmd.Output()
		if cmd.ProcessState == nil || len(out) == 0 {
			t.Fatalf("postmap: %v", err)
		}
		theirs := map[string]string{}
		for l := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(l), "\t")
			theirs[key] = value
		}
		entries := postfixconf.ReadTable(postfixconf.CIDR, name, []byte(text))
		for _, a := range addresses {
			if got := firstOf(entries, netip.MustParseAddr(a)); got != theirs[a] {
				t.Errorf("%s: %s is %q, and in Postfix %q", name, a, got, theirs[a])
			}
		}
	}
}

// firstOf is the value of the first entry that holds an address.
func firstOf(entries []postfixconf.Entry, a netip.Addr) string {
next:
	for _, e := range entries {
		if e.Structure || e.Fault != "" || e.Range.Contains(a) == e.Not {
			continue
		}
		for _, c := range e.Conditions {
			if c.Range.Contains(a) == c.Not {
				continue next
			}
		}
		return e.Value
	}
	return ""
}
