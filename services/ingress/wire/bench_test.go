package wire_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
)

// discarding is a backend that reads bodies and forgets them.
type discarding struct {
	conn   *wire.Conn // reads by Content
	direct bool
	buffer []byte
}

func (d *discarding) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	s := &discarding{buffer: make([]byte, 32<<10)}
	if d.direct {
		s.conn = c.Conn().(*wire.Conn)
	}
	return s, nil
}
func (*discarding) Reset()                                 {}
func (*discarding) Logout() error                          { return nil }
func (*discarding) Mail(string, *gosmtp.MailOptions) error { return nil }
func (*discarding) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (d *discarding) Data(r io.Reader) error {
	if d.conn != nil {
		r = d.conn.Content(r)
	}
	for {
		if _, err := r.Read(d.buffer); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// BenchmarkMessage is one pipelined message over a loopback socket:
// MAIL, RCPT and DATA in one write, the body in another.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 1 << 20} {
		for _, name := range []string{"go-smtp alone", "with wire", "with wire, Content"} {
			b.Run(fmt.Sprintf("%s/%d KiB", name, size>>10), func(b *testing.B) {
				socket, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				server := gosmtp.NewServer(&discarding{direct: strings.HasSuffix(name, "Content")})
				server.ErrorLog = log.New(io.Discard, "", 0)
				listener := net.Listener(socket)
				if name != "go-smtp alone" {
					cfg := wire.Config{Hostname: "relay.campus.test"}
					wire.Configure(server, cfg)
					listener = wire.NewListener(socket, cfg)
				}
				go server.Serve(listener)
				defer server.Close()
				benchmarkMessages(b, socket.Addr().String(), size)
			})
		}
	}
}

func benchmarkMessages(b *testing.B, address string, size int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	expect := func(lines int) {
		for range lines {
			if line, err := in.ReadSlice('\n'); err != nil || line[0] == '5' || line[0] == '4' {
				b.Fatalf("reply %q, %v", line, err)
			}
		}
	}
	expect(1)
	io.WriteString(conn, "HELO device\r\n")
	expect(1)
	group := []byte("MAIL FROM:<scan@campus.test>\r\nRCPT TO:<office@campus.test>\r\nDATA\r\n")
	line := strings.Repeat("x", 74) + "\r\n"
	body := []byte("Subject: scan\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(group)
		expect(3)
		conn.Write(body)
		expect(1)
	}
}
