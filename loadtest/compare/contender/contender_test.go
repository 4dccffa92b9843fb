package contender

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/loadtest/compare/meter"
)

// fakeServer makes this test binary a server: its value is the address and the
// greeting.
const fakeServer = "CONTENDER_FAKE_SERVER"

func TestMain(m *testing.M) {
	if what := os.Getenv(fakeServer); what != "" {
		os.Exit(serveFake(what))
	}
	os.Exit(m.Run())
}

// serveFake greets; the stubborn one has a child that does not end when asked.
func serveFake(what string) int {
	address, greeting, _ := strings.Cut(what, " ")
	if greeting == "" {
		fmt.Fprintln(os.Stderr, "no greeting,\ngiving up")
		return 3
	}
	if strings.Contains(greeting, "stubborn") {
		if err := exec.Command("sh", "-c", "trap '' TERM; while :; do sleep 1; done").Start(); err != nil {
			return 1
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return 1
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprintf(conn, "%s\r\n", greeting)
		conn.Close()
	}
}

func fake(t *testing.T, greeting string) *Contender {
	return &Contender{Name: "fake", site: Site{Dir: t.TempDir()}, configure: func(string, Site) (setup, error) {
		address, err := freeAddress()
		argv := []string{"/usr/bin/env", fmt.Sprintf("%s=%s %s", fakeServer, address, greeting), os.Args[0]}
		return setup{[]process{{argv, address, true}}, address}, err
	}}
}

func TestStartStop(t *testing.T) {
	group := meter.NewGroup(fmt.Sprintf("loadtest-contender-%d", os.Getpid()))
	c := fake(t, "220 stubborn")
	running, err := c.Start(t.Context(), group, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(group.PIDs()); n < 2 {
		t.Errorf("%d processes", n)
	}
	running.grace = 0
	running.Stop()
	running.Stop()
	if pids := group.PIDs(); len(pids) > 0 {
		t.Errorf("%v live", pids)
	}
	if err := c.SetAside(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.site.Dir, "fake.failed.1", "output.0")); err != nil {
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	group := meter.NewGroup(fmt.Sprintf("loadtest-contender-%d", os.Getpid()))
	_, err := fake(t, "").Start(t.Context(), group, nil)
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no greeting, | giving up") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fake(t, "220 here").Start(ctx, group, nil); err == nil || len(group.PIDs()) > 0 {
		t.Errorf("got %v, %v live", err, group.PIDs())
	}
}

func TestConfigurations(t *testing.T) {
	site := Site{Sink: "127.0.0.1:2526", Postrider: "/bin/true"}
	for _, tt := range []struct {
		name      string
		file      string
		has, lack []string
		processes int
	}{
		{PostfixDefault, "main.cf", []string{"relayhost = [127.0.0.1]:2526\n", "mynetworks = 127.0.0.0/8\n"}, []string{"in_flow_delay", "milter"}, 1},
		{PostfixTuned, "main.cf", []string{"in_flow_delay = 0\n", "smtp_connection_cache_destinations = [127.0.0.1]:2526\n"}, []string{"milter"}, 1},
		{PostfixOpenDKIM, "main.cf", []string{"in_flow_delay = 0\n", "smtpd_milters = inet:127.0.0.1:"}, nil, 2},
		{PostfixOpenDKIM, "opendkim.conf", []string{"Domain sender.test\n", "SignatureAlgorithm rsa-sha256\n"}, nil, 2},
		{Postrider, "postrider.yaml", []string{`{name: load.test, route: "smtp://127.0.0.1:2526"}`, `{name: sender.test, `}, nil, 1},
	} {
		c, err := New(tt.name, site)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		got, err := c.configure(dir, site)
		if err != nil || len(got.processes) != tt.processes {
			t.Fatalf("%s: %d processes, %v", tt.name, len(got.processes), err)
		}
		text, err := os.ReadFile(filepath.Join(dir, tt.file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.has {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in\n%s", tt.name, want, text)
			}
		}
		for _, bad := range tt.lack {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s: %q in\n%s", tt.name, bad, text)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	c, err := New(Postrider, Site{Postrider: "/nowhere/postrider"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Missing(); err == nil || !strings.Contains(err.Error(), "postrider needs /nowhere/postrider: make build") {
		t.Errorf("got %v", err)
	}
	if _, err := New("sendmail", Site{}); err == nil {
		t.Error("sendmail")
	}
	if slices.Contains(Names(), "") || len(Names()) != 4 {
		t.Error(Names())
	}
}
