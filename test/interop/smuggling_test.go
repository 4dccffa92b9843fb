//go:build interop

package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// notEnds are octets that some server somewhere takes for the end of a message,
// and that are none.
var notEnds = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r", "\r.\r\n", "\n.\r", "\r.\n",
	"\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\n\n.\n\n", "\r\r.\r\r",
	"\n.\n\r\n", "\r\n.\x00\n", "\r\n\r.\r\n", "\n\x00.\r\n",
}

// smuggled is what would be a second message after an end.
const smuggled = "MAIL FROM:<admin@post.test>\r\nRCPT TO:<victim@post.test>\r\nDATA\r\nFrom: admin@post.test\r\nSubject: smuggled\r\n\r\nevil\r\n"

// The control: without a relay in front, this very Postfix takes two messages.
func vulnerable(t *testing.T, p *Peers) {
	before := p.Postfix.Taken(t)
	c := dial(t, "", p.at(postIP))
	c.do("EHLO device.campus.test", 250)
	c.do("MAIL FROM:<"+sender+">", 250)
	c.do("RCPT TO:<anna@post.test>", 250)
	c.do("DATA", 354)
	c.send(message("direct", "body\n.\n"+smuggled+".\r\nQUIT\r\n"))
	for _, code := range []int{250, 250, 250, 354, 250, 221} {
		c.expect(code)
	}
	if n := p.Postfix.Taken(t) - before; n != 2 {
		t.Errorf("Postfix took %d messages, want 2: it is no longer a witness", n)
	}
	p.Postfix.Wait(t, "smuggled", 1)
}

// Every foreign end is one submission, refused whole: one reply, and nothing
// reaches Postfix.
func foreignEnds(t *testing.T, p *Peers) {
	before := p.Postfix.Taken(t)
	for _, end := range notEnds {
		content := message(fmt.Sprintf("end %x", end), "body"+end+smuggled)
		c := dial(t, world.Printer, p.SMTP)
		c.begin("anna@post.test")
		c.do("DATA", 354)
		c.send(content + ".\r\nQUIT\r\n")
		if said := c.expect(550); !strings.HasPrefix(said, "5.6.0 ") {
			t.Errorf("%q: %s", end, said)
		}
		c.expect(221)
		c = dial(t, world.Printer, p.SMTP)
		c.begin("anna@post.test")
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%sQUIT\r\n", len(content), content))
		if said := c.expect(550); !strings.HasPrefix(said, "5.6.0 ") {
			t.Errorf("%q in a chunk: %s", end, said)
		}
		c.expect(221)
	}
	// What comes last is taken last.
	p.send(message("after the ends", "body\r\n"), "anna@post.test")
	p.Postfix.Wait(t, "after the ends", 1)
	if n := p.Postfix.Taken(t) - before; n != 1 {
		t.Errorf("Postfix took %d messages, want 1", n)
	}
}

// Bodies that are well formed and full of dots arrive as they are, whether
// they come in chunks or in lines, and whether they leave in chunks or in lines.
func transparent(t *testing.T, p *Peers) {
	whole := "first\r\n.\r\n" + smuggled + ".\r\nlast\r\n"
	bodies := []string{
		whole,
		".\r\n",
		"..\r\n",
		"\r\n.\r\n\r\n.\r\n",
		"...\r\n.a\r\n. \r\n.\t\r\n",
		"BDAT 1 LAST\r\n.\r\nQUIT\r\n",
		"=0A.=0A" + strings.ReplaceAll(smuggled, "\r\n", "=0D=0A\r\n"),
		"DQouDQpNQUlMIEZST006PGFkbWluQHBvc3QudGVzdD4NCg==\r\n",
		strings.Repeat("x", 998) + "\r\n" + strings.Repeat(".", 998) + "\r\n",
	}
	before, sent := p.Postfix.Taken(t), 0
	verify := func(subject, body string) {
		t.Helper()
		for _, l := range p.Postfix.Wait(t, subject, 2) {
			expectBody(t, l, body)
		}
		sent += 2
	}
	to := []string{"anna@post.test", "anna@dots.test"} // BDAT, and DATA
	for i, body := range bodies {
		subject := fmt.Sprintf("dots %d", i)
		p.send(message(subject, body), to...)
		verify(subject, body)
	}
	// The same end at every place of a chunk's border.
	for cut := range len("first\r\n.\r\nM") {
		subject := fmt.Sprintf("cut %d", cut)
		content := message(subject, whole)
		at := strings.Index(content, "first") + cut
		c := dial(t, world.Printer, p.SMTP)
		c.begin(to...)
		c.send(fmt.Sprintf("BDAT %d\r\n%s", at, content[:at]))
		c.expect(250)
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content)-at, content[at:]))
		c.expect(250)
		c.do("QUIT", 221)
		verify(subject, whole)
	}
	if n := p.Postfix.Taken(t) - before; n != sent {
		t.Errorf("Postfix took %d messages, want %d", n, sent)
	}
}

// noise is a body of at least n octets that a careless program would change:
// dots, "From ", spaces at the end, empty lines, octets above 127. The same n
// gives the same body.
func noise(n int) string {
	r := rand.New(rand.NewPCG(5321, 5322))
	starts := []string{"", ".", "..", "From ", ">From ", " ", "\t", "=", "-- ", "--boundary", ". "}
	ends := []string{"", " ", "\t", "  ", ".", "="}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(starts[r.IntN(len(starts))])
		for range r.IntN(900) {
			c := byte(1 + r.IntN(255))
			if c == '\r' || c == '\n' {
				c = '.'
			}
			b.WriteByte(c)
		}
		b.WriteString(ends[r.IntN(len(ends))] + "\r\n")
		for range r.IntN(3) {
			b.WriteString("\r\n")
		}
	}
	return b.String()
}

// conversation is an SMTP session word by word.
type conversation struct {
	t    testing.TB
	text *textproto.Conn
}

// dial connects from an address, any if it is empty, and reads the greeting.
func dial(t testing.TB, from, to string) *conversation {
	t.Helper()
	var dialer net.Dialer
	if from != "" {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &conversation{t, textproto.NewConn(conn)}
	c.expect(220)
	return c
}

// begin goes up to the recipients.
func (c *conversation) begin(to ...string) {
	c.t.Helper()
	c.do("EHLO device.campus.test", 250)
	c.do("MAIL FROM:<"+sender+">", 250)
	for _, address := range to {
		c.do("RCPT TO:<"+address+">", 250)
	}
}

func (c *conversation) do(line string, code int) {
	c.t.Helper()
	c.send(line + "\r\n")
	c.expect(code)
}

// send writes octets as they are.
func (c *conversation) send(octets string) {
	c.t.Helper()
	if _, err := c.text.W.WriteString(octets); err != nil {
		c.t.Fatal(err)
	}
	if err := c.text.W.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads one reply and returns its text.
func (c *conversation) expect(code int) string {
	c.t.Helper()
	_, said, err := c.text.ReadResponse(code)
	if err != nil {
		c.t.Fatalf("want %d: %v", code, err)
	}
	return said
}
