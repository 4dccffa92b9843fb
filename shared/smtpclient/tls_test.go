package smtpclient

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

// certificate makes a self-signed certificate for mx.test that is valid from
// now on for d.
func certificate(t *testing.T, d time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.test"},
		DNSNames:     []string{"mx.test"},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(d),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// peer is a go-smtp server that keeps what it is sent.
type peer struct {
	mu       sync.Mutex
	received []string
	users    []string
}

func (p *peer) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &peerSession{peer: p}, nil }

type peerSession struct {
	*peer
	envelope string
}

func (s *peerSession) Reset()        { s.envelope = "" }
func (s *peerSession) Logout() error { return nil }
func (s *peerSession) Mail(from string, o *gosmtp.MailOptions) error {
	s.envelope = from + " " + string(o.Body)
	return nil
}
func (s *peerSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "who"}
	}
	s.envelope += " " + to
	return nil
}
func (s *peerSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, s.envelope+"\n"+string(content))
	return err
}
func (s *peerSession) AuthMechanisms() []string { return []string{"PLAIN"} }
func (s *peerSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return gosmtp.ErrAuthFailed
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.users = append(s.users, user)
		return nil
	}), nil
}

// listen starts the peer and returns how to dial it.
func (p *peer) listen(t *testing.T, config *tls.Config, implicit bool) (dial func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := gosmtp.NewServer(p)
	server.Domain = "mx.test"
	server.TLSConfig = config
	server.EnableSMTPUTF8 = true
	server.ErrorLog = silent{}
	accept := l
	if implicit {
		accept = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(accept)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// TestPeer: whole sessions with another implementation.
func TestPeer(t *testing.T) {
	cert, roots := certificate(t, time.Hour)
	for _, implicit := range []bool{false, true} {
		p := &peer{}
		dial := p.listen(t, &tls.Config{Certificates: []tls.Certificate{cert}}, implicit)
		session, err := Start(t.Context(), dial(), "mx.test", Config{
			Hello: "relay.test", TLS: Verify, ImplicitTLS: implicit, TLSConfig: &tls.Config{RootCAs: roots},
			Auth: &Credential{"relay", "secret"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !session.Verified() || session.TLS() == nil || session.TLS().Version < tls.VersionTLS12 || session.Extensions().StartTLS {
			t.Errorf("TLS %+v, extensions %+v", session.TLS(), session.Extensions())
		}
		content := "Subject: x\r\n\r\n.\r\n..dots\r\n\xe9\r\n"
		for range 3 {
			m := letter(content, 2)
			m.Recipients[0].Local = "nobody"
			m.Body8Bit = true
			res, err := session.Send(t.Context(), m)
			if err != nil || res.Recipients[0].Reply.Status() != "5.1.1" || res.Recipients[1].Err != nil || !res.Chunked {
				t.Errorf("%+v, %v", res, err)
			}
		}
		if !session.Healthy() {
			t.Error("session is not healthy")
		}
		if err := session.Quit(t.Context()); err != nil {
			t.Error(err)
		}
		want := "scan@campus.test 8BITMIME user-1@dest.test\n" + content
		if len(p.received) != 3 || p.received[2] != want || len(p.users) != 1 || p.users[0] != "relay" {
			t.Errorf("received %q from %q", p.received, p.users)
		}
	}
}

// TestPeerAuthRefused: the credential of another implementation, refused.
func TestPeerAuthRefused(t *testing.T) {
	cert, _ := certificate(t, time.Hour)
	dial := (&peer{}).listen(t, &tls.Config{Certificates: []tls.Certificate{cert}}, false)
	_, err := Start(t.Context(), dial(), "mx.test", Config{Hello: "relay.test", TLS: Encrypt, Auth: &Credential{"relay", "wrong"}})
	var refused *AuthError
	if !errors.As(err, &refused) || refused.Reply.Code != 535 {
		t.Error(err)
	}
}

func TestTLSPolicies(t *testing.T) {
	good, roots := certificate(t, time.Hour)
	expired, expiredRoots := certificate(t, -time.Hour)
	rejected := errors.New("no TLSA record matches")
	for _, tt := range []struct {
		name     string
		policy   TLSPolicy
		server   *tls.Config
		client   *tls.Config
		remote   string
		as       any // the cause of the TLSError; nil: the session starts
		verified bool
	}{
		{name: "opportunistic, unknown root", policy: Opportunistic, server: &tls.Config{Certificates: []tls.Certificate{good}}},
		{name: "opportunistic, expired, wrong name", policy: Opportunistic, server: &tls.Config{Certificates: []tls.Certificate{expired}}, remote: "mx.other.test"},
		{name: "opportunistic, TLS 1.0", policy: Opportunistic, server: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}},
		{name: "encrypt, unknown root", policy: Encrypt, server: &tls.Config{Certificates: []tls.Certificate{good}}},
		{name: "encrypt, TLS 1.0", policy: Encrypt, server: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, as: new(error)},
		{name: "encrypt, caller rejects", policy: Encrypt, server: &tls.Config{Certificates: []tls.Certificate{good}}, client: &tls.Config{VerifyConnection: func(tls.ConnectionState) error { return rejected }}, as: new(error)},
		{name: "encrypt, caller verifies", policy: Encrypt, server: &tls.Config{Certificates: []tls.Certificate{good}}, client: &tls.Config{VerifyConnection: func(tls.ConnectionState) error { return nil }}, verified: true},
		{name: "verify", policy: Verify, server: &tls.Config{Certificates: []tls.Certificate{good}}, client: &tls.Config{RootCAs: roots}, verified: true},
		{name: "verify, name of the route", policy: Verify, server: &tls.Config{Certificates: []tls.Certificate{good}}, client: &tls.Config{RootCAs: roots, ServerName: "mx.test"}, remote: "127.0.0.1", verified: true},
		{name: "verify, unknown root", policy: Verify, server: &tls.Config{Certificates: []tls.Certificate{good}}, as: new(x509.UnknownAuthorityError)},
		{name: "verify, wrong name", policy: Verify, server: &tls.Config{Certificates: []tls.Certificate{good}}, client: &tls.Config{RootCAs: roots}, remote: "mx.other.test", as: new(x509.HostnameError)},
		{name: "verify, expired", policy: Verify, server: &tls.Config{Certificates: []tls.Certificate{expired}}, client: &tls.Config{RootCAs: expiredRoots}, as: new(x509.CertificateInvalidError)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dial := (&peer{}).listen(t, tt.server, false)
			if tt.remote == "" {
				tt.remote = "mx.test"
			}
			session, err := Start(t.Context(), dial(), tt.remote, Config{Hello: "relay.test", TLS: tt.policy, TLSConfig: tt.client})
			if tt.as == nil {
				if err != nil {
					t.Fatal(err)
				}
				if session.Verified() != tt.verified || session.TLS() == nil {
					t.Errorf("verified %t", session.Verified())
				}
				session.Close()
				return
			}
			var failed *TLSError
			if !errors.As(err, &failed) || failed.Stage != StageHandshake || failed.Policy != tt.policy || !errors.As(err, tt.as) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHandshakeGarbage: a server that answers the handshake in clear, as one
// that cannot do TLS after all.
func TestHandshakeGarbage(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		client, server := tcpPair(t)
		go func() {
			defer server.Close()
			in := bufio.NewReader(server)
			if !implicit {
				io.WriteString(server, "220 mx\r\n")
				in.ReadString('\n')
				io.WriteString(server, "250-mx\r\n250 STARTTLS\r\n")
				in.ReadString('\n')
				io.WriteString(server, "220 go\r\n")
			}
			in.ReadByte()
			io.WriteString(server, "454 4.7.0 no certificate\r\n")
		}()
		_, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test", ImplicitTLS: implicit})
		var failed *TLSError
		var header tls.RecordHeaderError
		if !errors.As(err, &failed) || failed.Stage != StageHandshake || !errors.As(err, &header) {
			t.Error(err)
		}
	}
}

func TestTLSPolicyString(t *testing.T) {
	var got []string
	for p := Opportunistic; p <= Verify+1; p++ {
		got = append(got, p.String())
	}
	if s := strings.Join(got, " "); s != "opportunistic never encrypt verify TLSPolicy(4)" {
		t.Error(s)
	}
}
