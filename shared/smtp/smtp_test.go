package smtp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", 65)
	for _, tt := range []struct{ in, want string }{
		{"scan@Campus.TEST", "scan@campus.test"},
		{"Scan.Office@campus.test.", "Scan.Office@campus.test"},
		{`"a b"@campus.test`, `"a b"@campus.test`},
		{`"plain"@campus.test`, "plain@campus.test"},
		{`"a@c.example> NOTIFY=NEVER "@b.example`, `"a@c.example> NOTIFY=NEVER "@b.example`},
		{`"a\"b\\c"@campus.test`, `"a\"b\\c"@campus.test`},
		{"a..b@campus.test", `"a..b"@campus.test`},
		{".a@campus.test", `".a"@campus.test`},
		{"a%c@campus.test", "a%c@campus.test"},
		{"a@[127.0.0.1]", "a@[127.0.0.1]"},
		{"a@[ipv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]"},
		{"a@under_score.test", "a@under_score.test"},
		{"jürgen@müller.test", "jürgen@müller.test"},
		{"", ""}, {"scanner", ""}, {"@b", ""}, {"a@", ""}, {"a@b@c", ""}, {"a@b,c@d", ""}, {"a@b;c@d", ""},
		{"a b@c", ""}, {"a\x00@c", ""}, {"a\r@c", ""}, {"\xff@c", ""}, {"a@b..example", ""}, {"a@-b.test", ""},
		{`"a"b@c`, ""}, {`"a`, ""}, {`""@c`, ""}, {`"a\`, ""}, {"a@[1.2.3]", ""}, {"a@[::1]", ""}, {"a@[127.0.0.1", ""},
		{long + "@c.test", ""}, {"a@" + strings.Repeat("b.", 127) + "test", ""}, {"<a>@b.test", ""}, {"a@b:25", ""},
	} {
		got, err := ParseAddress(tt.in)
		if (err == nil) != (tt.want != "") || got.String() != tt.want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("ParseAddress(%q): %v is not ErrAddress", tt.in, err)
		}
	}
}

func TestPaths(t *testing.T) {
	if p, err := ParseReversePath("<>"); err != nil || !p.IsNull() || p.Bracketed() != "<>" {
		t.Errorf("null reverse-path: %v %v", p, err)
	}
	if p, err := ParseForwardPath("<Postmaster>"); err != nil || p.Local != "Postmaster" || p.Domain != "" {
		t.Errorf("postmaster: %+v %v", p, err)
	}
	if p, err := ParseForwardPath("<@a.test,@b.test:x@c.test>"); err != nil || p.String() != "x@c.test" {
		t.Errorf("source route: %v %v", p, err)
	}
	for _, bad := range []string{"", "<", "a@b.test", "<a@b.test", "<postmaster", "<>"} {
		if _, err := ParseForwardPath(bad); err == nil {
			t.Errorf("ParseForwardPath(%q) accepted", bad)
		}
	}
}

func TestUnquoted(t *testing.T) {
	a, err := Unquoted("a@c.example> NOTIFY=NEVER @b.example")
	if err != nil || a.String() != `"a@c.example> NOTIFY=NEVER "@b.example` {
		t.Errorf("got %v, %v", a, err)
	}
}

func TestParseReply(t *testing.T) {
	for _, tt := range []struct {
		code   int
		lines  []string
		status string
		text   string
	}{
		{550, []string{"5.7.1 no", "5.7.1 really"}, "5.7.1", "no\nreally"},
		{450, []string{"5.1.1 contradiction"}, "4.1.1", "contradiction"},
		{250, []string{"OK"}, "2.0.0", "OK"},
		{354, []string{"go"}, "", "go"},
		{550, []string{"5.7.1"}, "5.7.1", ""},
		{550, []string{"10.2.3.4 blocked"}, "5.0.0", "10.2.3.4 blocked"},
		{550, []string{"5.1.1234 x"}, "5.0.0", "5.1.1234 x"},
	} {
		r := ParseReply(tt.code, tt.lines)
		if r.Status() != tt.status || r.Text != tt.text {
			t.Errorf("ParseReply(%d, %q) = %q %q", tt.code, tt.lines, r.Status(), r.Text)
		}
	}
}

func TestReplyOf(t *testing.T) {
	err := fmt.Errorf("publish: %w", Refuse(ReplyStoreFull, errors.New("10077")))
	if got := ReplyOf(err, ReplyLocalError); got != ReplyStoreFull {
		t.Errorf("wrapped: %v", got)
	}
	if got := ReplyOf(errors.New("nats: no responders at 10.1.2.3:4222"), ReplyLocalError); got != ReplyLocalError {
		t.Errorf("ours: %v", got)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@b.test", `"a b"@c.test`, "a@[127.0.0.1]", `"\""@x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q -> %q -> %q, %v", s, a, again, err)
		}
		if strings.ContainsAny(a.Domain, " <>\r\n\x00") {
			t.Fatalf("%q gave domain %q", s, a.Domain)
		}
	})
}
