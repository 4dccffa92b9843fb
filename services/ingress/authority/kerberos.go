package authority

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	krbconfig "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
)

// Kerberos is a realm (RFC 4120). It asks in the name of the user for a ticket
// of our own service, in one AS exchange. That the answer can be read shows the
// password, and the ticket in it shows the KDC: only the true one can encrypt
// with the key in our keytab. A ticket overheard elsewhere does not help who
// plays the KDC, since the session key within must be that of the answer.
type Kerberos struct {
	cfg     config.Kerberos
	service types.PrincipalName
	request *krbconfig.Config
	kdcs    *kdcs
}

// encryption are the types that we take, best first: what a KDC proposes beyond
// them would make passwords easier to guess (RFC 8429).
var encryption = [...]int32{
	etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES256_CTS_HMAC_SHA1_96,
	etypeID.AES128_CTS_HMAC_SHA256_128, etypeID.AES128_CTS_HMAC_SHA1_96,
}

const (
	// maxSkew is how far a KDC's clock may be off (RFC 4120 §8.2 has 5 minutes).
	maxSkew = 5 * time.Minute
	// ticketLife is how long a ticket is asked for: it is thrown away at once.
	ticketLife = 5 * time.Minute
)

// OpenKerberos makes the authority of a realm. resolver is host:port, or empty
// for the system's.
func OpenKerberos(cfg config.Kerberos, resolver string) (*Kerberos, error) {
	k := &Kerberos{
		cfg: cfg, service: types.NewPrincipalName(nametype.KRB_NT_SRV_HST, cfg.Service),
		request: krbconfig.New(), kdcs: newKDCs(cfg, resolver),
	}
	k.request.LibDefaults.DefaultTktEnctypeIDs = encryption[:]
	k.request.LibDefaults.TicketLifetime = ticketLife
	keys, err := keytab.Load(cfg.Keytab)
	if err != nil {
		return nil, fmt.Errorf("open auth.kerberos.keytab: %w", err)
	}
	for _, etype := range encryption {
		if _, _, err := keys.GetEncryptionKey(k.service, cfg.Realm, 0, etype); err == nil {
			return k, nil
		}
	}
	return nil, fmt.Errorf("auth.kerberos.keytab: %s has no AES key of %s@%s; add it with ktadd, or set auth.kerberos.service", cfg.Keytab, cfg.Service, cfg.Realm)
}

// Check asks the KDC about a principal, named with the realm or without.
func (k *Kerberos) Check(ctx context.Context, user, password string) (string, error) {
	name := strings.TrimSuffix(user, "@"+k.cfg.Realm)
	principal, err := parsePrincipal(name)
	if err != nil {
		return "", no(Unknown, "%v", err)
	}
	l := login{Kerberos: k, ctx: ctx, principal: principal, password: password}
	ticket, err := l.ticket()
	if err != nil {
		return "", err
	}
	if err := k.proves(ticket, principal); err != nil {
		return "", down("the KDC cannot prove that it is the true one, or the keytab is old: %v", err)
	}
	return name, nil
}

// parsePrincipal takes a name apart at "/". A name with "@" is of another
// realm; escapes are for names that no device has.
func parsePrincipal(name string) (types.PrincipalName, error) {
	parts := strings.Split(name, "/")
	switch {
	case strings.Contains(name, "@"):
		return types.PrincipalName{}, errors.New("a name of another realm")
	case len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) || slices.Contains(parts, ""):
		return types.PrincipalName{}, errors.New("not a name of Kerberos")
	}
	return types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: parts}, nil
}

// proves opens the ticket with the key of our service. The keytab is read each
// time, so that a new key counts at once.
func (k *Kerberos) proves(reply *messages.ASRep, client types.PrincipalName) error {
	keys, err := keytab.Load(k.cfg.Keytab)
	if err != nil {
		return err
	}
	ticket := reply.Ticket
	if ticket.Realm != k.cfg.Realm || !ticket.SName.Equal(k.service) {
		return fmt.Errorf("a ticket for %s@%s", ticket.SName.PrincipalNameString(), ticket.Realm)
	}
	if err := ticket.DecryptEncPart(keys, &k.service); err != nil {
		return err
	}
	within, own := ticket.DecryptedEncPart, reply.DecryptedEncPart.Key
	if !within.CName.Equal(client) || within.CRealm != k.cfg.Realm {
		return fmt.Errorf("a ticket of %s@%s", within.CName.PrincipalNameString(), within.CRealm)
	}
	if len(own.KeyValue) == 0 || own.KeyType != within.Key.KeyType || subtle.ConstantTimeCompare(own.KeyValue, within.Key.KeyValue) != 1 {
		return errors.New("a ticket with another session key")
	}
	_, err = ticket.Valid(maxSkew)
	return err
}

// no is a verdict of Kerberos, or its lack.
func no(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Authority: authz.Kerberos, Reason: fmt.Sprintf(format, args...)}
}

// down is a KDC that does not answer, or is not to be believed.
func down(format string, args ...any) *Error {
	e := no(Unavailable, format, args...)
	e.down = true
	return e
}

// judge reads an error of the KDC (RFC 4120 §7.5.9).
func judge(e *messages.KRBError) error {
	kind := Unavailable
	switch e.ErrorCode {
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, errorcode.KDC_ERR_WRONG_REALM:
		kind = Unknown
	case errorcode.KDC_ERR_PREAUTH_FAILED, errorcode.KRB_AP_ERR_BAD_INTEGRITY:
		kind = Wrong
	case errorcode.KDC_ERR_CLIENT_REVOKED, errorcode.KDC_ERR_NAME_EXP, errorcode.KDC_ERR_KEY_EXPIRED,
		errorcode.KDC_ERR_CLIENT_NOTYET, errorcode.KDC_ERR_POLICY:
		kind = Locked
	case errorcode.KDC_ERR_SVC_UNAVAILABLE:
		return down("%v", e)
	case errorcode.KRB_AP_ERR_SKEW:
		return no(Unavailable, "our clock and the KDC's differ by %v: %v", time.Since(e.STime).Abs().Round(time.Second), e)
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return no(Unavailable, "the KDC does not know auth.kerberos.service: %v", e)
	}
	return no(kind, "%v", e)
}
