package dnsx

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // octets without the last dot: 255 on the wire (RFC 1035 §2.3.4)
	maxLabel = 63  // octets (RFC 1035 §2.3.4)
)

// ToASCII is the form in which the DNS is asked for a name: lower case,
// A-labels in place of U-labels (RFC 5890 §2.3.2.1), no last dot. Labels hold
// letters, digits, hyphens not at their ends (RFC 1123 §2.1), and underscores
// (RFC 8552). Everything else is ErrName, an IPv4 address included.
func ToASCII(name string) (string, error) {
	a, err := toASCII(name)
	if err != nil {
		return "", fmt.Errorf("%w %.100q: %w", ErrName, name, err)
	}
	return a, nil
}

func toASCII(name string) (string, error) {
	if len(name) > 4*maxName {
		return "", errTooLong
	}
	labels := strings.Split(strings.TrimSuffix(unifyDots(name), "."), ".")
	for i, label := range labels {
		a, err := labelToASCII(label)
		if err != nil {
			return "", err
		}
		labels[i] = a
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", errNumber
	}
	a := strings.Join(labels, ".")
	if len(a) > maxName {
		return "", errTooLong
	}
	return a, nil
}

var (
	errTooLong = fmt.Errorf("longer than %d octets", maxName)
	errLabel   = errors.New("a label is empty, too long, or not of letters, digits and hyphens")
	errNumber  = errors.New("the last label is a number") // RFC 1123 §2.1
)

// labelToASCII converts one label. The IDNA profile sees only labels that need
// it: it would refuse underscores, and pass empty labels.
func labelToASCII(label string) (string, error) {
	if len(label) > 4*maxLabel {
		return "", errLabel // the conversion takes time by the square of the length
	}
	if !isASCII(label) {
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", err
		}
		label = a
	}
	if len(label) == 0 || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return "", errLabel
	}
	lower := []byte(label)
	for i, c := range lower {
		switch {
		case c >= 'A' && c <= 'Z':
			lower[i] = c + 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return "", errLabel
		}
	}
	return string(lower), nil
}

// unifyDots writes the three other characters that separate labels as "."
// (RFC 3490 §3.1, kept by UTS 46 §2.3).
func unifyDots(name string) string {
	if isASCII(name) {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '\u3002', '\uff0e', '\uff61':
			return '.'
		}
		return r
	}, name)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
