package signer

import (
	"strings"
	"testing"
)

// BenchmarkSign is what signing costs of a message of 10 KiB: with each key
// alone, and with both as the relay does; and of a scan of 1 MiB.
func BenchmarkSign(b *testing.B) {
	header := "From: prn@campus.test\r\nTo: anna@inet.test\r\nSubject: scan\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@campus.test>\r\n\r\n"
	text := header + strings.Repeat("The quick brown fox jumps over the lazy dog, as it did before.\r\n", 160)
	scan := header + strings.Repeat(strings.Repeat("A", 76)+"\r\n", 1<<20/78)
	keys := relayKeys(b, "campus.test")
	for _, c := range []struct {
		name, message string
		keys          []*Key
	}{{"rsa", text, keys[:1]}, {"ed25519", text, keys[1:]}, {"both", text, keys}, {"scan", scan, keys}} {
		message, set := c.message, c.keys
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				if _, err := Sign(strings.NewReader(message), set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
