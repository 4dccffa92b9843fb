//go:build interop

package interop

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/postrider/postrider/services/ingress/authority"
)

// recorder is on the way to a KDC. It passes everything on, and later says the
// last answer again, whatever the question.
type recorder struct {
	net.Listener
	mu     sync.Mutex
	last   []byte
	repeat bool
}

func record(t *testing.T, kdc string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &recorder{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(c, kdc)
		}
	}()
	return r
}

func (r *recorder) pass(c net.Conn, kdc string) {
	defer c.Close()
	question := make([]byte, 64<<10)
	n, err := c.Read(question)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.repeat {
		k, err := net.Dial("tcp", kdc)
		if err != nil {
			return
		}
		defer k.Close()
		k.Write(question[:n])
		k.(*net.TCPConn).CloseWrite()
		if r.last, err = io.ReadAll(k); err != nil {
			return
		}
	}
	c.Write(r.last)
}

// An answer that was overheard is the answer to one question: with it, nobody
// gets in by a password that was changed since.
func TestReplayedKDC(t *testing.T) {
	kdc := startTrueKDC(t)
	r := record(t, kdc.Address)
	cfg := kdc.Config()
	cfg.KDC = []string{r.Addr().String()}
	k := openKerberos(t, cfg)
	tried{user: "person", password: "right", identity: "person"}.ask(t, k)
	kdc.Admin(t, "cpw -pw changed person")
	tried{user: "person", password: "right", kind: authority.Wrong}.ask(t, k)
	tried{user: "person", password: "changed", identity: "person"}.ask(t, k)
	kdc.Admin(t, "cpw -pw again person")
	r.mu.Lock()
	r.repeat = true
	r.mu.Unlock()
	tried{user: "person", password: "changed", kind: authority.Unavailable, reason: "another question"}.ask(t, k)
}
