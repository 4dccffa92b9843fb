package authority

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/postrider/postrider/shared/config"
)

// realmOf is the authority of a realm whose keytab has our key, with the keytab.
func realmOf(t *testing.T, kdcs ...string) (*Kerberos, *keytab.Keytab) {
	t.Helper()
	keys := keyOf(t, "the key of the service")
	text, err := keys.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := OpenKerberos(config.Kerberos{Realm: "R", Keytab: file, KDC: kdcs, Service: "smtp/relay"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return k, keys
}

func keyOf(t *testing.T, secret string) *keytab.Keytab {
	t.Helper()
	keys := keytab.New()
	if err := keys.AddEntry("smtp/relay", "R", secret, time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	return keys
}

// The ticket shows the true KDC: it is sealed with our key, of our service, of
// the one who asked, and holds the session key of the answer.
func TestTicket(t *testing.T) {
	k, ours := realmOf(t)
	prn, err := parsePrincipal("prn")
	if err != nil {
		t.Fatal(err)
	}
	type made struct {
		client  types.PrincipalName
		keys    *keytab.Keytab
		life    time.Duration
		session *types.EncryptionKey // of the answer; nil: that of the ticket
	}
	other := types.PrincipalName{NameType: 1, NameString: []string{"mallory"}}
	forged := types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: bytes.Repeat([]byte{1}, 32)}
	good := made{client: prn, keys: ours, life: time.Hour}
	for _, test := range []struct {
		name   string
		change func(*made)
		want   string
	}{
		{"true", func(*made) {}, ""},
		{"another key", func(m *made) { m.keys = keyOf(t, "a guess") }, "integrity"},
		{"another client", func(m *made) { m.client = other }, "ticket of mallory"},
		{"overheard", func(m *made) { m.session = &forged }, "another session key"},
		{"overheard, no key", func(m *made) { m.session = new(types.EncryptionKey) }, "another session key"},
		{"of the past", func(m *made) { m.life = -time.Hour }, "expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := good
			test.change(&m)
			now := time.Now().UTC()
			start := now.Add(min(m.life, 0) * 2)
			ticket, session, err := messages.NewTicket(m.client, "R", k.service, "R", asn1.BitString{Bytes: make([]byte, 4), BitLength: 32}, m.keys,
				etypeID.AES256_CTS_HMAC_SHA1_96, 1, start, start, now.Add(m.life), now.Add(m.life))
			if err != nil {
				t.Fatal(err)
			}
			if m.session != nil {
				session = *m.session
			}
			reply := messages.ASRep{KDCRepFields: messages.KDCRepFields{Ticket: ticket}}
			reply.DecryptedEncPart.Key = session
			err = k.proves(&reply, prn)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	for code, want := range map[int32]Kind{
		errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN: Unknown, errorcode.KDC_ERR_WRONG_REALM: Unknown,
		errorcode.KDC_ERR_PREAUTH_FAILED: Wrong, errorcode.KRB_AP_ERR_BAD_INTEGRITY: Wrong,
		errorcode.KDC_ERR_CLIENT_REVOKED: Locked, errorcode.KDC_ERR_KEY_EXPIRED: Locked, errorcode.KDC_ERR_NAME_EXP: Locked,
		errorcode.KRB_AP_ERR_SKEW: Unavailable, errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN: Unavailable,
		errorcode.KDC_ERR_ETYPE_NOSUPP: Unavailable, errorcode.KRB_ERR_GENERIC: Unavailable, 9999: Unavailable,
	} {
		err := judge(&messages.KRBError{ErrorCode: code, STime: time.Now().Add(-time.Hour)})
		if kindOf(err) != want || isDown(err) {
			t.Errorf("%d: %v, want %s", code, err, want)
		}
	}
	if err := judge(&messages.KRBError{ErrorCode: errorcode.KDC_ERR_SVC_UNAVAILABLE}); !isDown(err) {
		t.Errorf("a KDC without a service: %v", err)
	}
	err := judge(&messages.KRBError{ErrorCode: errorcode.KRB_AP_ERR_SKEW, STime: time.Now().Add(-time.Hour)})
	if !strings.Contains(err.Error(), "clock and the KDC's differ by 1h") {
		t.Errorf("a clock that is off: %v", err)
	}
}

// What a KDC wants computed is bounded: it has proved nothing yet.
func TestDerive(t *testing.T) {
	k, _ := realmOf(t)
	prn, _ := parsePrincipal("prn")
	info := func(etype int32, params []byte) types.PADataSequence {
		value, err := asn1.Marshal(types.ETypeInfo2{{EType: etype, Salt: "salt", S2KParams: params}})
		if err != nil {
			t.Fatal(err)
		}
		return types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: value}}
	}
	four := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for _, test := range []struct {
		name     string
		proposed types.PADataSequence
		etype    int32
		want     string
	}{
		{"as usual", info(etypeID.AES256_CTS_HMAC_SHA1_96, nil), 0, ""},
		{"with iterations", info(etypeID.AES128_CTS_HMAC_SHA256_128, four(leastIterations)), 0, ""},
		{"by the default salt", nil, etypeID.AES256_CTS_HMAC_SHA1_96, ""},
		{"for ever", info(etypeID.AES256_CTS_HMAC_SHA1_96, four(math.MaxUint32)), 0, "iterations"},
		{"easily guessed", info(etypeID.AES256_CTS_HMAC_SHA1_96, four(1)), 0, "iterations"},
		{"unreadable", info(etypeID.AES256_CTS_HMAC_SHA1_96, []byte("1")), 0, "parameters"},
		{"RC4", info(etypeID.RC4_HMAC, nil), 0, "no AES key"},
		{"RC4 in the answer", nil, etypeID.RC4_HMAC, "no AES key"},
		{"nothing", nil, 0, "no AES key"},
		{"an empty list", types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: []byte{0x30, 0}}}, 0, "no AES key"},
		{"no list", types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: []byte("x")}}, 0, "asn1"},
	} {
		l := login{Kerberos: k, ctx: t.Context(), principal: prn, password: "right"}
		err := l.derive(test.proposed, test.etype)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || err == nil && len(l.key.KeyValue) == 0 {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// talker listens and says the same to everybody, after it read what came.
func talker(t *testing.T, say []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 64))
			c.Write(say)
			if len(say) > 0 {
				c.Close()
			} else {
				t.Cleanup(func() { c.Close() }) // silent
			}
		}
	}()
	return l.Addr().String()
}

// Whatever is on the port of a KDC, the answer is that nobody answered.
func TestHostileKDC(t *testing.T) {
	framed := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	for name, say := range map[string][]byte{
		"another protocol": []byte("220 mx.campus.test ESMTP\r\n"),
		"a huge answer":    {0xff, 0xff, 0xff, 0xff, 0, 0},
		"an empty answer":  {0, 0, 0, 0},
		"cut short":        {0, 0, 0, 9, 1},
		"no ASN.1":         framed("nonsense"),
		"half a message":   framed("\x7e\x82\x01\x00\x30"),
		"an empty message": framed("\x6b\x00"),
	} {
		k, _ := realmOf(t, talker(t, say))
		if _, err := k.Check(t.Context(), "prn", "right"); kindOf(err) != Unavailable || !isDown(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, _ := realmOf(t, talker(t, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Check(ctx, "prn", "right"); !isDown(err) {
		t.Errorf("silence: %v", err)
	}
}

// The KDC that answered last is asked first.
func TestLastKDC(t *testing.T) {
	k := newKDCs(config.Kerberos{KDC: []string{"a", "b:89", "c"}}, "")
	last := "b:89"
	k.last.Store(&last)
	got, err := k.servers(t.Context())
	if err != nil || strings.Join(got, " ") != "b:89 a:88 c:88" || strings.Join(k.listed, " ") != "a:88 b:89 c:88" {
		t.Errorf("%q of %q, %v", got, k.listed, err)
	}
}

func TestKeytabWithoutOurKey(t *testing.T) {
	k, _ := realmOf(t)
	_, err := OpenKerberos(config.Kerberos{Realm: "R", Keytab: k.cfg.Keytab, Service: "smtp/other"}, "")
	if err == nil || !strings.Contains(err.Error(), "no AES key of smtp/other@R") {
		t.Error(err)
	}
}
