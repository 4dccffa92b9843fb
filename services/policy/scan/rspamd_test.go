package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
)

// worker is an rspamd that answers as it is told to.
func worker(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		both, stop := context.WithCancel(r.Context()) // who reads no body does not see the client go
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		handle(w, r.WithContext(both))
	}))
	t.Cleanup(func() {
		cancel()
		s.Close()
	})
	return s.URL
}

func answers(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, text)
	}
}

// Every action has its meaning.
func TestRspamdActions(t *testing.T) {
	for _, c := range []struct {
		action, onReject string
		want             authz.Outcome
		tagged           bool
	}{
		{"no action", "hold", authz.Admit, false},
		{"greylist", "hold", authz.Admit, false},
		{"add header", "hold", authz.Admit, true},
		{"rewrite subject", "hold", authz.Admit, true},
		{"soft reject", "hold", authz.Later, false},
		{"reject", "hold", authz.Hold, false},
		{"reject", "refuse", authz.Refuse, false},
		{"quarantine", "refuse", authz.Hold, false},
		{"discard", "refuse", authz.Hold, false},
	} {
		url := worker(t, answers(fmt.Sprintf(`{"action":%q,"score":7.5,"required_score":15,"symbols":{"A":{"score":1},"GOOD":{"score":-1},"B":{"score":6.5}},"new":1}`, c.action)))
		f := scanned(t, scanners(t, config.Scan{Rspamd: url, OnReject: c.onReject}), header)
		if f.Outcome != c.want || f.Down || (f.Fields != "") != c.tagged || f.Scanner != "rspamd: "+c.action+", 7.50 of 15.00: B A" {
			t.Errorf("%s: %+v", c.action, f)
		}
		if c.tagged && f.Fields != "X-Spam: Yes\r\nX-Spam-Status: Yes, score=7.50 required=15.00: B A\r\n" {
			t.Errorf("%s: %q", c.action, f.Fields)
		}
	}
}

// The scanner hears of the transaction, and gets the content as it is.
func TestRspamdRequest(t *testing.T) {
	var got http.Header
	var body, at string
	url := worker(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body, at = r.Header, string(b), r.Method+" "+r.URL.String()
		io.WriteString(w, `{"action":"no action"}`)
	})
	content := header + strings.Repeat("text\r\n", 200_000)
	scanned(t, scanners(t, config.Scan{Rspamd: url + "/?password=hunter2"}), content)
	if at != "POST /checkv2" || body != content {
		t.Errorf("%s with %d octets", at, len(body))
	}
	for name, want := range map[string]string{
		"From": "prn@campus.test", "Ip": "10.2.3.4", "Helo": "prn X: y", "Hostname": "prn.campus.test", "User": "prn-1",
		"Queue-Id": "0123456789ABCDEF", "Password": "hunter2", "Mta-Name": "relay.campus.test",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if to := strings.Join(got["Rcpt"], " "); to != "anna@campus.test bert@campus.test" {
		t.Errorf("recipients %q", to)
	}
}

// A scanner that answers nonsense, too much, or not at all is down, and the
// configuration says what becomes of the mail.
func TestRspamdDown(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	deaf := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, handle := range map[string]http.HandlerFunc{
		"garbage": answers("\x00\xffhello"), "no JSON": answers("<html>"), "another JSON": answers(`[1,2]`), "no action": answers(`{}`),
		"unknown action": answers(`{"action":"explode\r\nX: y"}`), "endless": endless, "silent": silent, "deaf": deaf,
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
			c.Close()
		},
		"endless header": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			for range 1 << 10 {
				if _, err := io.WriteString(c, strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		},
	} {
		for _, whenDown := range []string{"admit", "later", "hold"} {
			t.Run(name+" "+whenDown, func(t *testing.T) {
				t.Parallel()
				s := scanners(t, config.Scan{Rspamd: worker(t, handle) + "/?password=hunter2", WhenDown: whenDown, Timeout: config.Duration(200 * time.Millisecond)})
				f := scanned(t, s, header+strings.Repeat("text\r\n", 100_000))
				if string(f.Outcome) != whenDown || !f.Down || !strings.Contains(f.Scanner, "rspamd does not answer") || !strings.HasSuffix(f.Scanner, "scan.when_down: "+whenDown) {
					t.Errorf("%+v", f)
				}
				if strings.Contains(f.Scanner, "hunter2") || f.Fields != "" {
					t.Errorf("it tells too much: %+v", f)
				}
			})
		}
	}
}

// A scanner that is down for long is not asked for every message.
func TestBreaker(t *testing.T) {
	var asked atomic.Int32
	url := worker(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusInternalServerError)
	})
	s := scanners(t, config.Scan{Rspamd: url})
	for range 3 * downAfter {
		if f := scanned(t, s, header); !f.Down {
			t.Fatalf("%+v", f)
		}
	}
	if asked.Load() != downAfter {
		t.Errorf("asked %d times, want %d", asked.Load(), downAfter)
	}
	if f := scanned(t, s, header); !strings.Contains(f.Scanner, "several times in a row") {
		t.Errorf("%+v", f)
	}
}

// A content that cannot be read is no fault of the scanner: nothing is found, and
// the message comes again.
func TestContentTrouble(t *testing.T) {
	s := scanners(t, config.Scan{Rspamd: worker(t, answers(`{"action":"no action"}`))})
	trouble := errors.New("store is slow")
	a, _ := letter(t, header)
	for range 3 * downAfter {
		_, err := s.Scan(t.Context(), a, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(trouble)), nil })
		if !errors.Is(err, trouble) {
			t.Fatalf("got %v", err)
		}
		if _, err = s.Scan(t.Context(), a, func(context.Context) (io.ReadCloser, error) { return nil, trouble }); !errors.Is(err, trouble) {
			t.Fatalf("got %v", err)
		}
	}
	if f := scanned(t, s, header); f.Down || f.Outcome != authz.Admit {
		t.Errorf("%+v", f)
	}
}

// Of two scanners the one that objects more counts.
func TestMerge(t *testing.T) {
	f := merge([]Finding{{Outcome: authz.Admit, Scanner: "a", Fields: "X-A: 1\r\n"}, {Outcome: authz.Hold, Scanner: "b"}, {Outcome: authz.Later, Scanner: "c", Down: true}, {Outcome: authz.Hold, Scanner: "d", Fields: "X-D: 1\r\n"}})
	if f != (Finding{Outcome: authz.Hold, Scanner: "b; d", Fields: "X-A: 1\r\nX-D: 1\r\n"}) {
		t.Errorf("%+v", f)
	}
}

// A scanner adds nothing that says who sent what to whom, and no second line.
func TestField(t *testing.T) {
	for _, c := range [][3]string{
		{"X-Virus", "none", "X-Virus: none\r\n"}, {"X-A", "a\r\nTo: b", "X-A: a To: b\r\n"}, {"X-A", "a\n\tb", "X-A: a b\r\n"}, {"X-A", "\x00\xff", "X-A: ??\r\n"},
		{"From", "a@b", ""}, {"SUBJECT", "a", ""}, {"Content-Type", "a", ""}, {"Resent-To", "a", ""}, {"", "a", ""}, {"X A", "a", ""}, {"X:", "a", ""}, {"X-A\r\nTo", "a", ""}, {"X-A", "", ""},
	} {
		if got := field(c[0], c[1]); got != c[2] {
			t.Errorf("%q %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
	if got := field("X-A", strings.Repeat("x", 5000)); len(got) > maxValue+20 {
		t.Errorf("%d octets", len(got))
	}
}
