package smtptest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkPipelined is the rate of one connection per worker that sends
// messages of 10 KiB with one round trip each: MAIL, RCPT and BDAT at once.
func BenchmarkPipelined(b *testing.B) {
	dir, err := OpenMaildir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	for name, o := range map[string]Options{
		"count":   {Store: Discard{}, NoDigest: true},
		"journal": {Store: NewJournal(nullWriter{})},
		"maildir": {Store: dir},
	} {
		content := []byte("Message-ID: <1@campus.test>\r\nX-Ledger: t\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 130))
		bdat := bytes.Join([][]byte{
			[]byte("MAIL FROM:<a@campus.test>\r\nRCPT TO:<u1+token@example.test>\r\nBDAT "),
			strconv.AppendInt(nil, int64(len(content)), 10), []byte(" LAST\r\n"), content,
		}, nil)
		b.Run(name+"/bdat", func(b *testing.B) { load(b, o, [][]byte{bdat}, []int{3}) })
		envelope := []byte("MAIL FROM:<a@campus.test>\r\nRCPT TO:<u1+token@example.test>\r\nDATA\r\n")
		dot := append(bytes.Clone(content), ".\r\n"...)
		b.Run(name+"/data", func(b *testing.B) { load(b, o, [][]byte{envelope, dot}, []int{3, 1}) })
	}
}

type nullWriter struct{}

func (nullWriter) Write(p []byte) (int, error) { return len(p), nil }

// load sends b.N messages over a few connections: each part, then so many replies.
func load(b *testing.B, o Options, parts [][]byte, replies []int) {
	mx := Start(b, o)
	b.SetParallelism(10)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		if err := send(mx.Addr(), pb, parts, replies); err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	if err := mx.WaitFor(context.Background(), func(c Counts) bool { return c.Stored == int64(b.N) }); err != nil {
		b.Error(err)
	}
}

func send(addr string, pb *testing.PB, parts [][]byte, replies []int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if _, err := conn.Write([]byte("EHLO relay.campus.test\r\n")); err != nil {
		return err
	}
	for line := ""; line != "250 STARTTLS\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return err
		}
	}
	for pb.Next() {
		for i, part := range parts {
			if _, err := conn.Write(part); err != nil {
				return err
			}
			for range replies[i] {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return err
				}
				if line[0] != '2' && line[0] != '3' {
					return errors.New(string(line))
				}
			}
		}
	}
	return nil
}
