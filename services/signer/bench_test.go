package signer

import (
	"strings"
	"testing"
)

// BenchmarkSign is what signing costs of a message of 10 KiB: with each key
// alone, and with both as the relay does.
func BenchmarkSign(b *testing.B) {
	message := "From: prn@campus.test\r\nTo: anna@inet.test\r\nSubject: scan\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@campus.test>\r\n\r\n" +
		strings.Repeat("The quick brown fox jumps over the lazy dog, as it did before.\r\n", 160)
	keys := relayKeys(b, "campus.test")
	for name, set := range map[string][]*Key{"rsa": keys[:1], "ed25519": keys[1:], "both": keys} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				if _, err := Sign(strings.NewReader(message), set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
