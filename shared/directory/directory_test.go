package directory

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
)

func TestFilter(t *testing.T) {
	if got := Filter("(|(uid=%s)(cn=%s))", `*)(uid=\`+"\x00"); got != `(|(uid=\2a\29\28uid=\5c\00)(cn=\2a\29\28uid=\5c\00))` {
		t.Error(got)
	}
}

// No password goes to another machine in clear, where the configuration has that
// for loopback.
func TestClearIsForLoopback(t *testing.T) {
	a, err := Open(config.LDAP{URL: "ldap://127.0.0.1", UserDN: "uid=%s", Clear: true}, "auth.ldap")
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	if _, err := a.secure(context.Background(), remote{near}, a.servers[0]); err == nil || !strings.Contains(err.Error(), "in clear") {
		t.Errorf("to another machine: %v", err)
	}
}

// remote is a connection to another machine.
type remote struct{ net.Conn }

func (remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 389} }

func TestServers(t *testing.T) {
	l, err := Open(config.LDAP{URL: "ldaps://a.test,ldap://b.test, ldaps://[::1]:1636", UserDN: "uid=%s"}, "auth.ldap")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range l.servers {
		got = append(got, s.address)
	}
	if strings.Join(got, " ") != "a.test:636 b.test:389 [::1]:1636" {
		t.Error(got)
	}
}
