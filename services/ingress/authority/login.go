package authority

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// login is one AS exchange (RFC 4120 §3.1).
type login struct {
	*Kerberos
	ctx       context.Context
	principal types.PrincipalName
	password  string
	// key is that of the password, once the KDC said how it is derived.
	key types.EncryptionKey
}

// ticket is the KDC's answer, opened with the password. The first request shows
// nothing, so that a KDC counts a wrong password once.
func (l *login) ticket() (*messages.ASRep, error) {
	request, err := messages.NewASReq(l.cfg.Realm, l.request, l.principal, l.service)
	if err != nil {
		return nil, no(Unavailable, "make request: %v", err)
	}
	reply, refusal, err := l.exchange(&request)
	if err == nil && refusal != nil && refusal.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		if err := l.preauthenticate(&request, refusal); err != nil {
			return nil, no(Unavailable, "pre-authenticate: %v", err)
		}
		reply, refusal, err = l.exchange(&request)
	}
	switch {
	case err != nil:
		return nil, down("%v", err)
	case refusal != nil:
		return nil, judge(refusal)
	}
	return reply, l.open(reply, &request)
}

// exchange sends a request. The answer is a ticket or a refusal.
func (l *login) exchange(request *messages.ASReq) (*messages.ASRep, *messages.KRBError, error) {
	text, err := request.Marshal()
	if err != nil {
		return nil, nil, err
	}
	answer, err := l.kdcs.ask(l.ctx, text)
	if err != nil {
		return nil, nil, err
	}
	var refusal messages.KRBError
	if refusal.Unmarshal(answer) == nil {
		return nil, &refusal, nil
	}
	var reply messages.ASRep
	if err := reply.Unmarshal(answer); err != nil {
		return nil, nil, fmt.Errorf("read answer: %w", err)
	}
	return &reply, nil, nil
}

// preauthenticate adds the time, encrypted with the key of the password (RFC
// 4120 §5.2.7.2).
func (l *login) preauthenticate(request *messages.ASReq, refusal *messages.KRBError) error {
	var proposed types.PADataSequence
	if err := proposed.Unmarshal(refusal.EData); err != nil {
		return err
	}
	if err := l.derive(proposed, 0); err != nil {
		return err
	}
	now, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return err
	}
	sealed, err := crypto.GetEncryptedData(now, l.key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return err
	}
	value, err := sealed.Marshal()
	if err != nil {
		return err
	}
	request.PAData = types.PADataSequence{{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: value}}
	return nil
}

// Bounds of the iterations of PBKDF2: the least that RFC 3962 §4 has, and what
// takes half a second.
const (
	leastIterations = 4096
	mostIterations  = 1 << 20
)

// derive makes the key of the password as the KDC says (ETYPE-INFO2, RFC 4120
// §5.2.7.5), or by the defaults for an encryption type. What the KDC
// says is not authenticated yet.
func (l *login) derive(proposed types.PADataSequence, etype int32) error {
	salt, params := l.principal.GetSalt(l.cfg.Realm), ""
	for _, pa := range proposed {
		if pa.PADataType != patype.PA_ETYPE_INFO2 {
			continue
		}
		entries, err := pa.GetETypeInfo2()
		if err != nil {
			return err
		}
		usable := func(e types.ETypeInfo2Entry) bool {
			return slices.Contains(encryption[:], e.EType) && (etype == 0 || e.EType == etype)
		}
		if at := slices.IndexFunc(entries, usable); at >= 0 {
			e := entries[at]
			if err := moderate(e.S2KParams); err != nil {
				return err
			}
			etype, params = e.EType, hex.EncodeToString(e.S2KParams)
			if e.Salt != "" {
				salt = e.Salt
			}
			break
		}
	}
	if !slices.Contains(encryption[:], etype) {
		return fmt.Errorf("the KDC has no AES key of %s", l.principal.PrincipalNameString())
	}
	e, err := crypto.GetEtype(etype)
	if err != nil {
		return err
	}
	if params == "" {
		params = e.GetDefaultStringToKeyParams()
	}
	key, err := e.StringToKey(l.password, salt, params)
	l.key = types.EncryptionKey{KeyType: etype, KeyValue: key}
	return err
}

// moderate bounds what a KDC wants computed (RFC 3962 §4: four octets).
func moderate(params []byte) error {
	if len(params) == 0 {
		return nil
	}
	if len(params) != 4 {
		return errors.New("the KDC's parameters cannot be read")
	}
	if n := binary.BigEndian.Uint32(params); n < leastIterations || n > mostIterations {
		return fmt.Errorf("the KDC wants %d iterations", n)
	}
	return nil
}

// open reads the encrypted part of an answer, which only the right password
// can, and checks that it is the answer to our request (RFC 4120 §3.1.5).
func (l *login) open(reply *messages.ASRep, request *messages.ASReq) error {
	if reply.CRealm != l.cfg.Realm || !reply.CName.Equal(l.principal) {
		return down("the answer is about %s@%s", reply.CName.PrincipalNameString(), reply.CRealm)
	}
	if len(l.key.KeyValue) == 0 || l.key.KeyType != reply.EncPart.EType {
		if err := l.derive(reply.PAData, reply.EncPart.EType); err != nil {
			return no(Unavailable, "open answer: %v", err)
		}
	}
	text, err := crypto.DecryptEncPart(reply.EncPart, l.key, keyusage.AS_REP_ENCPART)
	if err != nil {
		return no(Wrong, "the answer cannot be opened with this password")
	}
	part := &reply.DecryptedEncPart
	if err := part.Unmarshal(text); err != nil {
		return down("read answer: %v", err)
	}
	switch skew := time.Since(part.AuthTime).Abs(); {
	case part.Nonce != request.ReqBody.Nonce:
		return down("the answer is to another question")
	case part.SRealm != l.cfg.Realm || !part.SName.Equal(l.service):
		return down("the answer is for %s@%s", part.SName.PrincipalNameString(), part.SRealm)
	case skew > maxSkew:
		return no(Unavailable, "our clock and the KDC's differ by %v", skew.Round(time.Second))
	}
	return nil
}
