package dnsx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigIsChecked(t *testing.T) {
	for _, bad := range []Config{
		{Servers: []string{"127.0.0.1"}}, {Servers: []string{""}}, {Servers: []string{":53"}},
		{Servers: []string{"127.0.0.1:domain"}}, {Servers: []string{"127.0.0.1:0"}}, {Servers: []string{"::1:53:"}},
		{Timeout: -1}, {Attempts: -1}, {CacheBytes: -1},
	} {
		if r, err := New(bad); err == nil {
			r.Close()
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestSystemServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	s := &system{path: path}
	start := time.Now()
	addresses := func(at time.Duration) string {
		var out []string
		for _, server := range s.servers(start.Add(at)) {
			if server.trusted {
				t.Errorf("%s is trusted", server.address)
			}
			out = append(out, server.address)
		}
		return strings.Join(out, " ")
	}
	write := func(text string, changed time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, start.Add(changed)); err != nil {
			t.Fatal(err)
		}
	}
	if got := addresses(0); got != "127.0.0.1:53" {
		t.Errorf("without a file: %s", got)
	}
	write("search campus.test\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", 1)
	if got := addresses(time.Second); got != "127.0.0.1:53" {
		t.Errorf("read too often: %s", got)
	}
	if got := addresses(reloadTime); got != "192.0.2.1:53 [2001:db8::1]:53" {
		t.Errorf("got %s", got)
	}
	first := s.servers(start.Add(2 * reloadTime))[0]
	if again := s.servers(start.Add(4 * reloadTime))[0]; again != first {
		t.Error("an unchanged file makes new servers, which forget their rest")
	}
	write("nameserver 127.0.0.53\n", 2)
	if got := addresses(6 * reloadTime); got != "127.0.0.53:53" {
		t.Errorf("after a change: %s", got)
	}
	write("# nothing\n", 3)
	if got := addresses(8 * reloadTime); got != "127.0.0.1:53" {
		t.Errorf("without servers: %s", got)
	}
}

func TestInTurn(t *testing.T) {
	now := time.Now()
	a, b, c, d := &server{address: "a"}, &server{address: "b", trusted: true}, &server{address: "c"}, &server{address: "d", trusted: true}
	a.rest(now)
	b.rest(now)
	order := ""
	for _, s := range inTurn([]*server{a, b, c, d}, now) {
		order += s.address
	}
	if order != "dbca" {
		t.Errorf("got %s", order)
	}
	b.wake()
	if first := inTurn([]*server{a, b, c, d}, now.Add(restTime))[0]; first != b {
		t.Errorf("got %s first", first.address)
	}
}
