package signer

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/postrider/postrider/shared/mail"
)

// relayKeys are an RSA and an Ed25519 key of a domain, made in a directory of
// the test.
func relayKeys(t testing.TB, domain string) []*Key {
	t.Helper()
	made, err := MakeKeys(t.TempDir()+"/dkim", domain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var keys []*Key
	for _, m := range made {
		k, err := LoadKey(m.File)
		if err != nil {
			t.Fatal(err)
		}
		k.Domain, k.Selector = domain, m.Selector
		keys = append(keys, k)
	}
	return keys
}

// verify checks every signature of a message against the records that the keys
// would publish, and counts the good ones.
func verify(t testing.TB, message string, keys ...*Key) (good int) {
	t.Helper()
	found, err := dkim.VerifyWithOptions(strings.NewReader(message), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			for _, k := range keys {
				if name == k.Selector+"._domainkey."+k.Domain {
					record, err := k.Record()
					return []string{record}, err
				}
			}
			return nil, errors.New("no such record")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		if v.Err == nil {
			good++
		}
	}
	return good
}

func sign(t testing.TB, message string, keys []*Key) string {
	t.Helper()
	fields, err := Sign(strings.NewReader(message), keys)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

const letter = "Received: from a by b; now\r\nFrom: Printer <prn@campus.test>\r\nTo: anna@campus.test\r\nSubject: scan\r\n" +
	"Date: Mon, 2 Jan 2006 15:04:05 -0700\r\nMessage-ID: <1@prn>\r\n\r\nPage  one. \r\n\r\n\r\n"

// Whatever a device sends is signed twice, and both signatures are good.
func TestSignaturesVerify(t *testing.T) {
	keys := relayKeys(t, "relay.campus.test")
	for _, c := range []struct{ name, content, sent string }{
		{"letter", letter, letter},
		{"empty body", "From: a@b\r\n\r\n", "From: a@b\r\n\r\n"},
		{"header only", "From: a@b\r\nSubject: x\r\n", "From: a@b\r\nSubject: x\r\n\r\n"},
		{"no From", "Subject: x\r\n\r\nbody\r\n", ""},
		{"two From", "From: a@b\r\nFrom: c@d\r\n\r\nbody\r\n", ""},
		{"space before the colon", "From : a@b\r\nSubject\t: x\r\n\r\nbody\r\n", ""},
		{"folded", "From: a@b\r\nSubject: x\r\n \r\n\ty\r\n\r\nbody\r\n", ""},
		{"8 bit", "From: a@b\r\nSubject: gr\xfc\xdfe\r\n\r\nb\xf6dy\r\n", ""},
		{"no line end at the end", "From: a@b\r\n\r\nbody", ""},
		{"long header", "From: a@b\r\nTo: " + strings.Repeat("someone@example.test,\r\n ", 1200) + "x@y\r\n\r\nbody\r\n", ""},
		{"thousands of fields", "From: a@b\r\n" + strings.Repeat("To: c@d\r\nCc:\r\n", 9000) + "\r\nbody\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fields := sign(t, c.content, keys)
			sent := c.sent
			if sent == "" {
				sent = c.content
			}
			if got := verify(t, fields+sent, keys...); got != 2 {
				t.Errorf("%d good signatures, want 2:\n%s", got, fields)
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n"), "\r\n") {
				if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
					t.Errorf("line of %d octets", len(line))
				}
			}
		})
	}
}

// Nothing that a reader sees can be added to a signed message.
func TestOversigned(t *testing.T) {
	keys := relayKeys(t, "relay.campus.test")
	signed := sign(t, letter, keys) + letter
	if verify(t, signed, keys...) != 2 {
		t.Fatal("not good to begin with")
	}
	for _, name := range oversigned {
		if got := verify(t, name+": evil\r\n"+signed, keys...); got != 0 {
			t.Errorf("%s added: %d signatures still good", name, got)
		}
		if got := verify(t, strings.Replace(signed, "From: P", name+": evil\r\nFrom: P", 1), keys...); got != 0 {
			t.Errorf("%s added in the middle: %d signatures still good", name, got)
		}
	}
	for change, want := range map[string]int{
		"X-Anything: y\r\n" + signed:                                     2,
		strings.Replace(signed, "Page  one.", "Page\ttwo.", 1):           0,
		strings.Replace(signed, "Page  one. ", "Page one.", 1):           2, // relaxed
		strings.Replace(signed, "Subject: scan", "subject:  scan  ", 1):  2,
		strings.Replace(signed, "Subject: scan", "Subject: scam", 1):     0,
		strings.TrimSuffix(signed, "\r\n\r\n") + "appended\r\n":          0,
		strings.Replace(signed, "Received: from a by b; now\r\n", "", 1): 2,
	} {
		if got := verify(t, change, keys...); got != want {
			t.Errorf("%d good signatures, want %d:\n%s", got, want, change)
		}
	}
}

// A signature that is on the message survives ours.
func TestSignedBefore(t *testing.T) {
	keys, theirs := relayKeys(t, "relay.campus.test"), relayKeys(t, "app.example.test")
	before := sign(t, letter, theirs) + letter
	if got := verify(t, sign(t, before, keys)+before, append(keys, theirs...)...); got != 4 {
		t.Errorf("%d good signatures, want 4", got)
	}
}

func TestChosen(t *testing.T) {
	names, fields := chosen(mail.Header("From: a\r\nFROM: b\r\nX: y\r\n" + strings.Repeat("Cc: c\r\n", 100)))
	count := map[string]int{}
	for _, n := range names {
		count[n]++
	}
	if count["From"] != 3 || count["To"] != 1 || count["Cc"] != maxNamed || count["X"] != 0 {
		t.Errorf("named %v", count)
	}
	if want := "from:b\r\nfrom:a\r\n" + strings.Repeat("cc:c\r\n", maxNamed); string(fields) != want {
		t.Errorf("signed %q, not %q", fields, want)
	}
}

// The signature ends, and later than any message in the queue.
func TestSignatureTags(t *testing.T) {
	fields := sign(t, letter, relayKeys(t, "relay.campus.test"))
	for field := range strings.SplitSeq(strings.TrimPrefix(fields, "DKIM-Signature:"), "DKIM-Signature:") {
		var at, end int64
		for tag := range strings.SplitSeq(field, ";") {
			fmt.Sscanf(strings.TrimSpace(tag), "t=%d", &at)
			fmt.Sscanf(strings.TrimSpace(tag), "x=%d", &end)
		}
		if life := time.Duration(end-at) * time.Second; life < signatureLife-time.Second || life > signatureLife+time.Second {
			t.Errorf("signed for %s", life)
		}
		if strings.Contains(field, " l=") || !strings.Contains(field, "d=relay.campus.test;") || !strings.Contains(field, "c=relaxed/relaxed;") {
			t.Errorf("tags %s", field)
		}
	}
}

// pages is a content of 20 MB that measures the heap while it is read.
type pages struct {
	t       *testing.T
	left    int
	measure int
	base    uint64
}

func (p *pages) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(b), p.left)
	for i := range n {
		b[i] = "0123456789abcde\r\n"[(p.left-i)%17]
	}
	p.left -= n
	if p.measure -= n; p.measure < 0 {
		p.measure = 4 << 20
		if heap := heap(); heap > p.base+(2<<20) {
			p.t.Errorf("%d octets of heap in use with %d left to sign", heap-p.base, p.left)
		}
	}
	return n, nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryIsBounded(t *testing.T) {
	keys := relayKeys(t, "relay.campus.test")
	content := io.MultiReader(strings.NewReader("From: a@b\r\n\r\n"), &pages{t: t, left: 20 << 20, base: heap()})
	if _, err := Sign(content, keys); err != nil {
		t.Fatal(err)
	}
}

// A content that cannot be read to its end has no signature.
func TestContentFails(t *testing.T) {
	trouble := errors.New("store is away")
	for _, start := range []string{"", "From: a@b\r\n", letter} {
		_, err := Sign(io.MultiReader(strings.NewReader(start), failing{trouble}), relayKeys(t, "relay.campus.test"))
		if !errors.Is(err, trouble) {
			t.Errorf("after %q: %v", start, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
