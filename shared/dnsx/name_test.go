package dnsx

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestToASCII(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("a", 61)
	for _, tt := range []struct{ in, want string }{
		{"campus.test", "campus.test"},
		{"Campus.TEST.", "campus.test"},
		{"localhost", "localhost"},
		{"_dmarc.campus.test", "_dmarc.campus.test"},
		{"under_score.campus.test", "under_score.campus.test"},
		{"münchen.test", "xn--mnchen-3ya.test"},
		{"MÜNCHEN.test", "xn--mnchen-3ya.test"},
		{"_dmarc.münchen.test", "_dmarc.xn--mnchen-3ya.test"},
		{"faß.test", "xn--fa-hia.test"},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah"},
		{"xn--mnchen-3ya.test", "xn--mnchen-3ya.test"},
		{"1.0.0.10.in-addr.arpa", "1.0.0.10.in-addr.arpa"},
		{"3com.test", "3com.test"},
		{label63 + ".test", label63 + ".test"},
		{name253, name253},
		{name253 + ".", name253},
		{"", ""}, {".", ""}, {"a..b", ""}, {".a", ""}, {"a..", ""}, {"ü..b", ""},
		{"a b.test", ""}, {"a\x00b.test", ""}, {"a\r\nb.test", ""}, {`a\.b.test`, ""}, {`a\013b.test`, ""}, {"a/b.test", ""},
		{"-a.test", ""}, {"a-.test", ""}, {"a@b.test", ""}, {"*.test", ""},
		{"10.0.0.1", ""}, {"10.0.0.1.", ""}, {"[10.0.0.1]", ""}, {"::1", ""}, {"a.123", ""},
		{label63 + "a.test", ""}, {"a" + name253, ""}, {name253 + "a", ""}, {strings.Repeat("ü", 60) + ".test", ""}, {strings.Repeat("ü", 200), ""}, {strings.Repeat("a.", 2000), ""},
		{"\xff.test", ""}, {"a\u00adb\u200d.test", ""}, {"\u00ad.test", ""}, {"a\u2024b.test", ""},
	} {
		got, err := ToASCII(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ToASCII(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err != nil && (!errors.Is(err, ErrName) || strings.ContainsAny(err.Error(), "\r\n\x00")) {
			t.Errorf("ToASCII(%q): error %q", tt.in, err)
		}
	}
}

func FuzzToASCII(f *testing.F) {
	for _, s := range []string{"campus.test", "münchen.test.", "_a.例え。テスト", "a..b", "10.0.0.1", "xn--.test", `\046.test`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ToASCII(s)
		if err != nil {
			if !errors.Is(err, ErrName) || a != "" {
				t.Fatalf("%q: %q, %v", s, a, err)
			}
			return
		}
		if again, err := ToASCII(a); err != nil || again != a {
			t.Fatalf("%q -> %q -> %q, %v", s, a, again, err)
		}
		// What passes can be asked, and comes back as it was.
		packet, err := question{a + ".", dns.TypeMX}.message().Pack()
		if err != nil {
			t.Fatalf("%q -> %q: %v", s, a, err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(packet); err != nil || m.Question[0].Name != a+"." {
			t.Fatalf("%q -> %q -> %v, %v", s, a, m.Question, err)
		}
	})
}

func TestUnescape(t *testing.T) {
	every := make([]byte, 250)
	for i := range every {
		every[i] = byte(i)
	}
	for _, want := range []string{"", "v=spf1 -all", `a "quoted" word`, `back\slash`, `\065`, "a;b", string(every), "\xff\xfe", "München"} {
		rr := &dns.TXT{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{escape(want)}}
		packet := make([]byte, 512)
		if _, err := dns.PackRR(rr, packet, 0, nil, false); err != nil {
			t.Fatal(err)
		}
		back, _, err := dns.UnpackRR(packet, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := unescape(back.(*dns.TXT).Txt[0]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := unescape(`end\`); got != `end\` {
		t.Errorf("lone backslash: %q", got)
	}
}

// escape writes every octet as \DDD.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(`\`)
		b.WriteByte('0' + s[i]/100)
		b.WriteByte('0' + s[i]/10%10)
		b.WriteByte('0' + s[i]%10)
	}
	return b.String()
}
