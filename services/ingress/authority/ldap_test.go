package authority

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/postrider/postrider/shared/config"
)

// What directories say of a user's bind, by what they are.
func TestBindErrors(t *testing.T) {
	ad := func(code string) error {
		return ldap.NewError(ldap.LDAPResultInvalidCredentials, errors.New("80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data "+code+", v2580"))
	}
	policy := func(is int8) *ldap.SimpleBindResult {
		c := ldap.NewControlBeheraPasswordPolicy()
		c.Error, c.ErrorString = is, ldap.BeheraPasswordPolicyErrorMap[is]
		return &ldap.SimpleBindResult{Controls: []ldap.Control{c}}
	}
	say := func(code uint16) error { return ldap.NewError(code, errors.New("said")) }
	wrong := say(ldap.LDAPResultInvalidCredentials)
	for _, test := range []struct {
		name   string
		result *ldap.SimpleBindResult
		err    error
		want   Kind
		down   bool
	}{
		{"wrong", nil, wrong, Wrong, false},
		{"wrong, policy has nothing to say", policy(-1), wrong, Wrong, false},
		{"locked by policy", policy(1), wrong, Locked, false},
		{"expired by policy", policy(0), wrong, Locked, false},
		{"to be changed, though right", policy(2), nil, Locked, false},
		{"Windows: wrong", nil, ad("52e"), Wrong, false},
		{"Windows: locked", nil, ad("775"), Locked, false},
		{"Windows: disabled", nil, ad("533"), Locked, false},
		{"389: inactivated", nil, say(ldap.LDAPResultUnwillingToPerform), Locked, false},
		{"389: too many tries", nil, say(ldap.LDAPResultConstraintViolation), Locked, false},
		{"no password there", nil, say(ldap.LDAPResultInappropriateAuthentication), Wrong, false},
		{"no entry", nil, say(ldap.LDAPResultNoSuchObject), Unknown, false},
		{"wants TLS", nil, say(ldap.LDAPResultConfidentialityRequired), Unavailable, false},
		{"busy", nil, say(ldap.LDAPResultBusy), Unavailable, true},
		{"gone", nil, say(ldap.ErrorNetwork), Unavailable, true},
		{"unreadable", nil, io.ErrUnexpectedEOF, Unavailable, true},
	} {
		var err error
		if why := locked(test.result, test.err); why != "" {
			err = refusal(Locked, "%s", why)
		} else {
			err = verdict(test.err, "uid=prn")
		}
		if kindOf(err) != test.want || isDown(err) != test.down {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

// A user name stays one value of the name of an entry.
func TestEntryByName(t *testing.T) {
	l, err := OpenLDAP(config.LDAP{URL: "ldaps://a.test", UserDN: "uid=%s,dc=test"})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"Prn-1": "prn-1 uid=Prn-1,dc=test", "a,cn=admin": `a,cn=admin uid=a\,cn=admin,dc=test`, "a+cn=b": `a+cn=b uid=a\+cn=b,dc=test`,
		" prn": "", "prn\x00": "", "p\u200brn": "", "ｐrn": "",
	} {
		name, dn, err := l.find(nil, user)
		if got := name + " " + dn; want == "" && kindOf(err) != Unknown || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v, want %q", user, got, err, want)
		}
	}
}

// No password is sent in clear, whatever the server makes of STARTTLS.
func TestNothingInClear(t *testing.T) {
	const password = "hunter2-hunter2"
	// Answers to the first message: STARTTLS is unavailable; it is a success, and
	// no TLS follows.
	for name, answer := range map[string]string{
		"refused": "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00",
		"feigned": "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan []byte, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				heard <- nil
				return
			}
			first := make([]byte, 31) // the request for STARTTLS
			io.ReadFull(c, first)
			io.WriteString(c, answer)
			c.(*net.TCPConn).CloseWrite()
			rest, _ := io.ReadAll(c)
			heard <- append(first, rest...)
			c.Close()
		}()
		a, err := OpenLDAP(config.LDAP{URL: "ldap://" + l.Addr().String(), UserDN: "uid=%s"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = a.Check(ctx, "prn", password)
		cancel()
		if !isDown(err) {
			t.Errorf("%s: %v", name, err)
		}
		if said := <-heard; !bytes.Contains(said, []byte("1.3.6.1.4.1.1466.20037")) || bytes.Contains(said, []byte(password)) {
			t.Errorf("%s: the server heard %q", name, said)
		}
		l.Close()
	}
}
