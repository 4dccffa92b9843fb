package wire_test

import (
	"testing"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/timetest"
)

// Who connects and sends nothing is told of, once, with how far it came; who
// tried to send, or had something refused, is known by that.
func TestLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		do         func(*client)
		kinds, why string
		tls        bool
	}{
		"at once":              {func(*client) {}, wire.KindNoMail, "the client closed the connection without a command", false},
		"after EHLO":           {func(c *client) { c.do("EHLO a.test", "250") }, wire.KindNoMail, "the client left without sending anything", false},
		"with QUIT":            {func(c *client) { c.do("EHLO a.test", "250"); c.do("QUIT", "221", "") }, wire.KindNoMail, "the client left without sending anything", false},
		"after the handshake":  {func(c *client) { c.do("EHLO a.test", "250"); c.startTLS() }, wire.KindNoMail, "the client closed the connection without a command, once TLS was agreed on", true},
		"once authenticated":   {authenticated, wire.KindNoMail, "the client left without sending anything, once it had authenticated", true},
		"after a refusal":      {func(c *client) { c.do("FROBNICATE", "500") }, wire.KindSyntax, "", false},
		"after MAIL":           {func(c *client) { c.do("EHLO a.test", "250"); c.do("MAIL FROM:<a@b.test>", "250") }, "", "", false},
		"in a broken greeting": {func(c *client) { c.send("EH") }, wire.KindNoMail, "the client closed the connection without a command", false},
	} {
		t.Run(name, func(t *testing.T) {
			var told refusals
			s := wired(t, &backend{}, wire.Config{TLS: serverTLS(), Auth: true, Refused: told.take})
			c := s.dial(t)
			c.expect("220")
			tt.do(c)
			c.conn.Close()
			timetest.Await(t, "the connection is over", func() bool { return s.listener.Connections() == 0 })
			if told.kinds() != tt.kinds {
				t.Fatalf("reported %q, want %q", told.kinds(), tt.kinds)
			}
			if tt.why == "" {
				return
			}
			if r := told.list[0]; r.Err.Error() != tt.why || r.TLS != tt.tls || !r.Reply.IsZero() {
				t.Errorf("%+v", r)
			}
		})
	}
}

func authenticated(c *client) {
	c.do("EHLO a.test", "250")
	secure := c.startTLS()
	secure.do("EHLO a.test", "250")
	secure.do("AUTH PLAIN AGRldgBzZWNyZXQ=", "235")
	secure.do("QUIT", "221", "")
}
