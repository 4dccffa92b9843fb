package mail

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

func TestQueueIDs(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	ids := NewQueueIDs()
	var mu sync.Mutex
	seen := map[QueueID]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := QueueID("")
			for range 5000 {
				id := ids.Next()
				if id <= last {
					t.Errorf("%s after %s", id, last)
				}
				last = id
				mu.Lock()
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 40000 {
		t.Fatalf("%d distinct ids of 40000", len(seen))
	}
	for id := range seen {
		if len(id) != 16 || id.Time().Before(before) || id.Time().After(time.Now().Add(10*time.Second)) {
			t.Fatalf("id %s has time %s", id, id.Time())
		}
		parsed, err := ParseQueueID(" " + strings.ToLower(string(id)))
		if err != nil || parsed != id {
			t.Fatalf("parse %s: %s %v", id, parsed, err)
		}
		d := id.Derive("report")
		if d == id || d != id.Derive("report") || d == id.Derive("delay") || len(d) != 16 || d[:8] != id[:8] {
			t.Fatalf("derive %s: %s", id, d)
		}
		break
	}
}

func TestRef(t *testing.T) {
	for range 1000 {
		r := NewRef()
		if len(r) != 9 || strings.ContainsAny(string(r), "01OI") {
			t.Fatal(r)
		}
		if got, err := ParseRef(strings.ToLower(strings.ReplaceAll(string(r), "-", ""))); err != nil || got != r {
			t.Fatalf("%s: %s %v", r, got, err)
		}
		b := []byte(r)
		b[2] = refAlphabet[(strings.IndexByte(refAlphabet, b[2])+1)%32]
		if _, err := ParseRef(string(b)); err == nil {
			t.Fatalf("one wrong character of %s went unnoticed: %s", r, b)
		}
		b = []byte(r)
		if b[1] != b[2] {
			b[1], b[2] = b[2], b[1]
			diff := strings.IndexByte(refAlphabet, b[1]) - strings.IndexByte(refAlphabet, b[2])
			if _, err := ParseRef(string(b)); err == nil && diff%16 != 0 {
				t.Fatalf("swapped characters of %s went unnoticed", r)
			}
		}
	}
}

func TestSplitHeader(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		body     string
		fields   []string
	}{
		{"plain", "A: 1\r\nB: 2\r\n 3\r\n\r\nbody\r\n", "body\r\n", []string{"A=1", "B=2 3"}},
		{"no body", "A: 1\r\n\r\n", "", []string{"A=1"}},
		{"no empty line", "A: 1\r\n", "", []string{"A=1"}},
		{"missing empty line before body", "A: 1\r\nthis is text\r\n", "this is text\r\n", []string{"A=1"}},
		{"no header", "just text\r\n", "just text\r\n", nil},
		{"empty", "", "", nil},
		{"only body", "\r\nbody", "body", nil},
		{"space before colon", "From : a@b\r\n\r\n", "", []string{"From=a@b"}},
		{"folded first line", " A: 1\r\n\r\n", " A: 1\r\n\r\n", nil},
	} {
		h, body, err := SplitHeader([]byte(tt.in), true)
		if err != nil || tt.in[body:] != tt.body {
			t.Errorf("%s: body %q, %v", tt.name, tt.in[body:], err)
		}
		var got []string
		for f := range h.Fields() {
			got = append(got, f.Name+"="+f.Value())
		}
		if !slices.Equal(got, tt.fields) {
			t.Errorf("%s: fields %q", tt.name, got)
		}
	}
	if _, _, err := SplitHeader([]byte("A: 1\r\nB"), false); err != ErrNoHeaderEnd {
		t.Errorf("unfinished: %v", err)
	}
}

func TestHeaderRead(t *testing.T) {
	h := Header("received: x\r\nReceived: y\r\nFrom: \"A, B\" <a@x.test>, c@y.test\r\nMessage-Id:\r\n <1@x>\r\n")
	if h.Hops() != 2 || h.Get("MESSAGE-ID") != "<1@x>" || !h.Has("from") || h.Has("Date") {
		t.Errorf("hops %d id %q", h.Hops(), h.Get("message-id"))
	}
	if from := h.From(); from.Unreadable || !slices.Equal(from.Addresses, []string{"a@x.test", "c@y.test"}) {
		t.Errorf("from %+v", from)
	}
}

func TestReceived(t *testing.T) {
	rcpt, _ := smtp.ParseForwardPath("<b@x.test>")
	r := Received{
		Helo: "pr<in>ter\r\nX: y", Address: netip.MustParseAddr("::ffff:10.2.3.4"), Name: "p.campus.test",
		By: "relay.test", Protocol: "ESMTPS", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", ID: "0123456789ABCDEF",
		For: &rcpt, At: time.Date(2026, 11, 21, 9, 8, 7, 0, time.UTC),
	}
	want := "Received: from pr?in?ter??X:?y (p.campus.test [10.2.3.4])\r\n\t(using TLS1.3 TLS_AES_128_GCM_SHA256)\r\n" +
		"\tby relay.test (Postrider) with ESMTPS id 0123456789ABCDEF\r\n\tfor <b@x.test>;\r\n\tSat, 21 Nov 2026 09:08:07 +0000\r\n"
	if got := string(r.Append(nil)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzSplitHeader(f *testing.F) {
	f.Add([]byte("A: 1\r\nB: 2\r\n\r\nbody"))
	f.Add([]byte(" x\n:\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := SplitHeader(b, true)
		if err != nil || body < len(h) || body > len(b) {
			t.Fatalf("%q: %d %v", b, body, err)
		}
		n := 0
		for fd := range h.Fields() {
			n += len(fd.Raw)
			_ = fd.Value()
		}
		if n > len(h) {
			t.Fatal("fields overlap")
		}
	})
}
