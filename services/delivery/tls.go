package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/postrider/postrider/shared/smtpclient"
)

// tlsBase is what all TLS sessions have in common.
type tlsBase struct {
	roots    *x509.CertPool // nil: those of the system
	sessions tls.ClientSessionCache
}

func newTLSBase(roots *x509.CertPool) tlsBase {
	return tlsBase{roots: roots, sessions: tls.NewLRUClientSessionCache(512)}
}

// config is the base of one session; the client adds the host name and what
// the policy needs. A resumed session is checked again: crypto/tls resumes
// none under Verify whose certificate was not verified.
func (b tlsBase) config() *tls.Config {
	return &tls.Config{RootCAs: b.roots, ClientSessionCache: b.sessions}
}

// witnessOf is the host of a session, and how it is encrypted.
func witnessOf(t target, s *smtpclient.Session) witness {
	w := witness{mta: t.mta()}
	state := s.TLS()
	if state == nil {
		return w
	}
	verified := "unverified"
	if s.Verified() {
		verified = "verified"
	}
	version := strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	w.tls = version + " " + tls.CipherSuiteName(state.CipherSuite) + " " + verified
	return w
}
