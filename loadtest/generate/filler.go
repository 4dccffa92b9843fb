package generate

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"math/rand/v2"
)

// newFiller writes size octets of text, or a few less when size is too small
// for one line: lines of 40 to 76 octets with CRLF, among them some that a
// careless relay would damage (a leading dot, "From ", trailing space).
func newFiller(size int, seed uint64) filler {
	dice := rand.New(rand.NewPCG(seed, 0x66696c6c6572))
	var text []byte
	for n := 0; size-len(text) >= 3; n++ {
		left := size - len(text)
		length := 42 + dice.IntN(37)
		// The rest must be nothing or at least three octets, a line.
		if left-length < 3 {
			length = left
		}
		text = appendLine(text, n, length, dice)
	}
	state := sha256.New()
	state.Write(text)
	return filler{text: text, wire: stuff(text), state: state.(hash.Cloner)}
}

// appendLine adds line number n, length octets with its CRLF.
func appendLine(text []byte, n, length int, dice *rand.Rand) []byte {
	words := [...]string{
		"sample", "scan", "page", "tray", "north", "building", "level", "reading", "sensor", "alarm", "pressure",
		"valve", "freezer", "minus", "eighty", "degrees", "queue", "paper", "toner", "order", "report", "daily",
		"backup", "finished", "without", "fault", "of", "the", "and", "is", "in", "at", "laboratory", "instrument",
	}
	end := len(text) + length - 2
	switch n % 32 {
	case 7:
		text = append(text, '.')
	case 13:
		text = append(text, "From "...)
	case 21:
		text = append(text, ".."...)
	}
	for len(text) < end {
		text = append(text, words[dice.IntN(len(words))]...)
		text = append(text, ' ')
	}
	return append(text[:end], "\r\n"...)
}

// stuff doubles the dot at the start of a line (RFC 5321 §4.5.2).
func stuff(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/1000)
	for line := range bytes.Lines(text) {
		if line[0] == '.' {
			out = append(out, '.')
		}
		out = append(out, line...)
	}
	return out
}
