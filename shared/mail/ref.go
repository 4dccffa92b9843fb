package mail

import (
	"crypto/rand"
	"errors"
	"strings"
)

// Ref is the reference of one refusal: eight characters with a check digit,
// written with a hyphen ("R7K2-9QF3"). It stands first in the text of every
// refusal so that it survives a 40-column panel, and uses no 0, O, 1 or I so
// that it survives being read over the telephone.
type Ref string

const refAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

// NewRef is a random reference.
func NewRef() Ref {
	var b [7]byte
	rand.Read(b[:])
	var out [8]byte
	for i, c := range b {
		out[i] = refAlphabet[c&31]
	}
	out[7] = refCheck(out[:7])
	return Ref(string(out[:4]) + "-" + string(out[4:]))
}

// refCheck weighs each character by its place, so that one wrong character
// and two swapped neighbours are both noticed.
func refCheck(b []byte) byte {
	sum := 0
	for i, c := range b {
		sum += (2*i + 3) * strings.IndexByte(refAlphabet, c)
	}
	return refAlphabet[sum&31]
}

// ErrRef is returned for text that is no reference, or has a typing mistake.
var ErrRef = errors.New("not a reference")

// ParseRef reads a reference as a person typed it, with or without hyphen.
func ParseRef(s string) (Ref, error) {
	s = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if len(s) != 8 {
		return "", ErrRef
	}
	for i := range len(s) {
		if strings.IndexByte(refAlphabet, s[i]) < 0 {
			return "", ErrRef
		}
	}
	if refCheck([]byte(s[:7])) != s[7] {
		return "", ErrRef
	}
	return Ref(s[:4] + "-" + s[4:]), nil
}
