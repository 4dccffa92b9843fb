package smtptest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

func TestStartTLS(t *testing.T) {
	mx := Start(t, Options{Hostname: "mx1.example.test", User: "relay", Password: "secret"})
	conn, err := net.Dial("tcp", mx.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := connect(t, conn)
	if reply := c.say(250, "EHLO relay.campus.test"); strings.Contains(reply, "AUTH") || !strings.Contains(reply, "STARTTLS") {
		t.Errorf("in the clear: %q", reply)
	}
	c.say(220, "STARTTLS")
	secured := tls.Client(conn, &tls.Config{ServerName: "mx1.example.test", RootCAs: mx.CA()})
	if err := secured.Handshake(); err != nil {
		t.Fatal(err)
	}
	c = &client{textproto.NewConn(secured), t}
	c.say(503, "MAIL FROM:<a@campus.test>") // EHLO is forgotten, RFC 3207 §4.2
	if reply := c.say(250, "EHLO relay.campus.test"); !strings.Contains(reply, "AUTH PLAIN LOGIN") || strings.Contains(reply, "STARTTLS") {
		t.Errorf("under TLS: %q", reply)
	}
	c.say(502, "STARTTLS")
	c.say(235, "AUTH PLAIN AHJlbGF5AHNlY3JldA==")
	c.say(250, "MAIL FROM:<a@campus.test>", "RCPT TO:<u1@example.test>")
	c.say(354, "DATA")
	c.say(250, ".")
	got, err := mx.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if d := got[0]; d.TLS != "TLS 1.3" || d.ServerName != "mx1.example.test" || d.User != "relay" || d.Helo != "relay.campus.test" || d.Session != 1 {
		t.Errorf("%+v", d)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(mx.CAPEM()) || !pool.Equal(mx.CA()) {
		t.Error("CAPEM and CA differ")
	}
}

func TestNothingFollowsStartTLS(t *testing.T) {
	c := dial(t, Start(t, Options{}))
	c.say(250, "EHLO relay.campus.test")
	if _, err := c.W.WriteString("STARTTLS\r\nMAIL FROM:<a@campus.test>\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.W.Flush()
	c.expect(554)
	c.expectEnd()
}

func TestTLSFaults(t *testing.T) {
	garbage := func(err error) bool {
		var bad tls.RecordHeaderError
		return errors.As(err, &bad)
	}
	for action, want := range map[string]func(error) bool{
		"drop": func(err error) bool { return err != nil && !garbage(err) }, // end or reset
		"454":  garbage,
	} {
		mx := Start(t, Options{At: map[Stage]string{StageTLS: action}})
		conn, err := net.Dial("tcp", mx.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := connect(t, conn)
		c.say(250, "EHLO relay.campus.test")
		c.say(220, "STARTTLS")
		if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); !want(err) {
			t.Errorf("%s: %v", action, err)
		}
	}
}

func TestImplicitTLS(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	mx := Start(t, Options{ImplicitTLS: true, Authority: authority})
	conn, err := tls.Dial("tcp", mx.Addr(), &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := connect(t, conn)
	if reply := c.say(250, "EHLO relay.campus.test"); strings.Contains(reply, "STARTTLS") {
		t.Errorf("%q", reply)
	}
	c.say(221, "QUIT")
	c.expectEnd() // with a close_notify, or it would be unexpected
}

func TestIssue(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-48 * time.Hour)
	expired, err := authority.Issue(Leaf{Names: []string{"mx.example.test"}, NotBefore: past, NotAfter: past.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	mx := Start(t, Options{ImplicitTLS: true, TLS: &tls.Config{Certificates: []tls.Certificate{expired}}})
	if mx.CA() != nil || mx.CAPEM() != nil {
		t.Error("an authority was made for a given certificate")
	}
	for name, check := range map[string]func(error) bool{
		"mx.example.test": func(err error) bool {
			var bad x509.CertificateInvalidError
			return errors.As(err, &bad) && bad.Reason == x509.Expired
		},
		"other.example.test": func(err error) bool { return err != nil },
	} {
		conn, err := tls.Dial("tcp", mx.Addr(), &tls.Config{RootCAs: authority.Pool(), ServerName: name})
		if !check(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}
