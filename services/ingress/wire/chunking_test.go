package wire_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/postrider/postrider/services/ingress/wire"
)

func TestChunking(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, tt := range []struct {
			name    string
			send    string
			replies []string
			content string // of the one message; "-": none
		}{
			{"one chunk", "BDAT 6 LAST\r\nHello\n" /* bare LF */, []string{"550 5.6.0"}, "-"},
			{"one good chunk", "BDAT 7 LAST\r\nHello\r\n", []string{"250"}, "Hello\r\n"},
			{"line end missing", "BDAT 5 LAST\r\nHello", []string{"250"}, "Hello\r\n"},
			{"two chunks", "BDAT 4\r\nHellBDAT 3 LAST\r\no\r\n", []string{"250 2.0.0 4 octets", "250"}, "Hello\r\n"},
			{"line end across chunks", "BDAT 6\r\nHello\rBDAT 1 LAST\r\n\n", []string{"250", "250"}, "Hello\r\n"},
			{"CR at the end", "BDAT 6 LAST\r\nHello\r", []string{"550 5.6.0"}, "-"},
			{"empty last", "BDAT 5\r\nHelloBDAT 0 LAST\r\n", []string{"250", "250"}, "Hello\r\n"},
			{"empty message", "BDAT 0 LAST\r\n", []string{"250"}, ""},
			{"empty chunks", "BDAT 0\r\nBDAT 0\r\nBDAT 1 LAST\r\n.", []string{"250", "250", "250"}, ".\r\n"},
			{"dots", "BDAT 11 LAST\r\n.\r\n..\r\n.a\r\n", []string{"250"}, ".\r\n..\r\n.a\r\n"},
			{"the end of DATA inside", "BDAT 12 LAST\r\na\r\n.\r\nRSET\r\n", []string{"250"}, "a\r\n.\r\nRSET\r\n"},
			{"lower case", "bdat 5 last\r\nHello", []string{"250"}, "Hello\r\n"},
			{"NUL", "BDAT 5 LAST\r\nHe\x00lo", []string{"550 5.6.0"}, "-"},
			{"fault in the first chunk", "BDAT 2\r\na\nBDAT 3\r\nb\r\nBDAT 1 LAST\r\nc", []string{"250", "250", "550 5.6.0"}, "-"},
			{"RSET between", "BDAT 5\r\nHelloRSET\r\nMAIL FROM:<a@campus.test>\r\n", []string{"250", "250 2.0.0", "250 2.1.0"}, "-"},
			{"EHLO between", "BDAT 5\r\nHelloEHLO again\r\n", []string{"250", "250"}, "-"},
			{"QUIT between", "BDAT 5\r\nHelloQUIT\r\n", []string{"250", "221", ""}, "-"},
			{"NOOP between", "BDAT 5\r\nHelloNOOP\r\nBDAT 0 LAST\r\n", []string{"250", "250", "250"}, "Hello\r\n"},
			{"MAIL between", "BDAT 5\r\nHelloMAIL FROM:<a@campus.test>\r\nBDAT 0 LAST\r\n", []string{"250", "503", "250"}, "Hello\r\n"},
			{"RCPT between", "BDAT 5\r\nHelloRCPT TO:<a@campus.test>\r\nBDAT 0 LAST\r\n", []string{"250", "503", "250"}, "Hello\r\n"},
			{"DATA between", "BDAT 5\r\nHelloDATA\r\n", []string{"250", "503"}, "-"},
			{"DATA between, with data", "BDAT 5\r\nHelloDATA\r\nx\r\n.\r\n", []string{"250", "503", ""}, "-"},
			{"no size", "BDAT\r\nHello", []string{"501 5.5.4", ""}, "-"},
			{"bad size", "BDAT -1\r\nHello", []string{"501 5.5.4", ""}, "-"},
			{"huge size", "BDAT 99999999999999999999\r\nHello", []string{"501 5.5.4", ""}, "-"},
			{"big size", "BDAT 9223372036854775807 LAST\r\nHello", []string{"552 5.3.4", ""}, "-"},
			{"bad size in between", "BDAT 3\r\nabcBDAT x LAST\r\n", []string{"250", "501 5.5.4", ""}, "-"},
			{"bare LF in between", "BDAT 3\r\nabcNOOP\nNOOP\r\n", []string{"250", "500 5.5.2", ""}, "-"},
			{"too many errors in between", "BDAT 3\r\nabcX\r\nX\r\nX\r\n", []string{"250", "500", "500", "500", "421", ""}, "-"},
			{"bad word", "BDAT 5 FIRST\r\nHello", []string{"501 5.5.4", ""}, "-"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				b := &backend{direct: direct}
				s := wired(t, b, wire.Config{MaxErrors: 2})
				c := s.greeted(t)
				c.envelope()
				c.send(tt.send)
				c.expect(tt.replies...)
				c.conn.Close()
				s.listener.Shutdown(t.Context()) // until the session has ended
				got := b.submissions()
				if tt.content == "-" && len(got) != 0 || tt.content != "-" && (len(got) != 1 || got[0].content != tt.content) {
					t.Errorf("published %q, want %q", got, tt.content)
				}
			})
		}
	})
}

// A chunk without a transaction is drained, not read as commands.
func TestChunkOutOfOrder(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		c := wired(t, &backend{direct: direct}, wire.Config{MaxSize: 1000}).greeted(t)
		c.do("BDAT 7 LAST\r\nQUIT\r\nx", "503 5.5.1 Need MAIL", "500")
		c.send("MAIL FROM:<a@campus.test>\r\nRCPT TO:<refused@campus.test>\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
		c.expect("250", "550", "503 5.5.1 No valid", "503 5.5.1 No valid", "250")
		c.do("BDAT 2001", "552 5.3.4", "")
	})
}

// The session learns that the client took the body back, and not that it ended.
func TestChunkAborted(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		b := &backend{direct: direct}
		c := wired(t, b, wire.Config{}).greeted(t)
		c.envelope()
		c.send("BDAT 5\r\nHello")
		c.expect("250")
		c.do("RSET", "250")
		c.do("QUIT", "221", "")
		if got := b.failures(); len(got) != 1 || errors.Is(got[0], io.EOF) {
			t.Errorf("the session read %v", got)
		}
	})
}

// Many chunks in one write are answered in order.
func TestChunksPipelined(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		b := &backend{direct: direct}
		c := wired(t, b, wire.Config{}).greeted(t)
		var group, want strings.Builder
		group.WriteString("MAIL FROM:<a@campus.test>\r\nRCPT TO:<b@campus.test>\r\n")
		for i := range 100 {
			line := fmt.Sprintf("line %d %s\r\n", i, strings.Repeat("x", 90))
			want.WriteString(line)
			fmt.Fprintf(&group, "BDAT %d\r\n%s", len(line), line)
		}
		group.WriteString("BDAT 0 LAST\r\nQUIT\r\n")
		go c.send(group.String())
		for range 2 + 100 + 1 {
			c.expect("250")
		}
		c.expect("221", "")
		if got := b.submissions(); len(got) != 1 || got[0].content != want.String() {
			t.Errorf("%d messages, or not the content", len(got))
		}
	})
}
