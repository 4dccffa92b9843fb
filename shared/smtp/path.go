package smtp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Size limits of paths, in octets (RFC 5321 §4.5.3.1).
const (
	MaxLocalpart = 64
	MaxDomain    = 255
	MaxPath      = 256 // with its angle brackets
)

// ErrAddress is wrapped by every error of the address parsers.
var ErrAddress = errors.New("bad address")

// Address is a mailbox: a local part and a domain (RFC 5321 §4.1.2).
// The zero value is no address.
type Address struct {
	// Local is the local part without quoting: what the receiving host sees.
	Local string
	// Domain is a domain name or an address literal in brackets, in lower
	// case ASCII; a domain with non-ASCII letters keeps them as given.
	Domain string
}

// ReversePath is the argument of MAIL FROM. The zero value is the null
// reverse-path "<>" of reports (RFC 5321 §4.5.5).
type ReversePath struct{ Address }

// ForwardPath is the argument of RCPT TO.
type ForwardPath struct{ Address }

// IsZero reports that there is no address.
func (a Address) IsZero() bool { return a.Local == "" && a.Domain == "" }

// IsNull reports the null reverse-path.
func (p ReversePath) IsNull() bool { return p.IsZero() }

// IsASCII reports that the address needs no SMTPUTF8 (RFC 6531 §3.2).
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// IsLiteral reports that the domain is an address literal (RFC 5321 §4.1.3).
func (a Address) IsLiteral() bool { return strings.HasPrefix(a.Domain, "[") }

// String is the address in the form it has on the wire, without brackets:
// the local part is quoted exactly when it must be. Null gives "".
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.Local) + "@" + a.Domain
}

// Bracketed is the path as MAIL and RCPT write it: "<local@domain>" or "<>".
func (a Address) Bracketed() string { return "<" + a.String() + ">" }

// MarshalText writes String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// ParseReversePath reads the path of MAIL FROM in angle brackets, "<>"
// included.
func ParseReversePath(s string) (ReversePath, error) {
	if s == "<>" {
		return ReversePath{}, nil
	}
	a, err := parsePath(s)
	return ReversePath{a}, err
}

// ParseForwardPath reads the path of RCPT TO in angle brackets. "<postmaster>"
// without a domain is valid in any case (RFC 5321 §4.5.1); it yields an
// Address with an empty Domain, which the caller completes.
func ParseForwardPath(s string) (ForwardPath, error) {
	if strings.EqualFold(s, "<postmaster>") {
		return ForwardPath{Address{Local: s[1 : len(s)-1]}}, nil
	}
	a, err := parsePath(s)
	return ForwardPath{a}, err
}

func parsePath(s string) (Address, error) {
	if len(s) < 2 || s[0] != '<' || s[len(s)-1] != '>' {
		return Address{}, fmt.Errorf("%w: no angle brackets", ErrAddress)
	}
	return ParseAddress(dropSourceRoute(s[1 : len(s)-1]))
}

// dropSourceRoute removes "@a,@b:" (RFC 5321 appendix C: ignore it).
func dropSourceRoute(s string) string {
	if !strings.HasPrefix(s, "@") {
		return s
	}
	_, rest, ok := strings.Cut(s, ":")
	if !ok {
		return s
	}
	return rest
}

// ParseAddress reads local@domain. It is strict about what could change the
// meaning of a command or a header (control characters, unquoted specials,
// lengths, invalid UTF-8) and lenient about what devices write: consecutive or
// leading dots in the local part are accepted and quoted when written again; a
// trailing dot of the domain is dropped.
func ParseAddress(s string) (Address, error) {
	if !utf8.ValidString(s) {
		return Address{}, fmt.Errorf("%w: not UTF-8", ErrAddress)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return Address{}, fmt.Errorf("%w: control character", ErrAddress)
		}
	}
	local, domain, err := splitLocal(s)
	if err != nil {
		return Address{}, err
	}
	if domain, err = parseDomain(domain); err != nil {
		return Address{}, err
	}
	a := Address{Local: local, Domain: domain}
	if len(quoteLocal(local)) > MaxLocalpart+2 || len(local) > MaxLocalpart {
		return Address{}, fmt.Errorf("%w: local part longer than %d octets", ErrAddress, MaxLocalpart)
	}
	if len(a.Bracketed()) > MaxPath {
		return Address{}, fmt.Errorf("%w: path longer than %d octets", ErrAddress, MaxPath)
	}
	return a, nil
}

// Unquoted builds the Address from a string whose local part had its quotes
// removed by a parser before us: the last "@" separates, and everything before
// it is the local part.
func Unquoted(s string) (Address, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 1 {
		return Address{}, fmt.Errorf("%w: no domain", ErrAddress)
	}
	return ParseAddress(quoteLocal(s[:at]) + "@" + s[at+1:])
}

func splitLocal(s string) (local, domain string, err error) {
	if !strings.HasPrefix(s, `"`) {
		local, domain, ok := strings.Cut(s, "@")
		if !ok || local == "" {
			return "", "", fmt.Errorf("%w: no local part or no domain", ErrAddress)
		}
		for i := range len(local) {
			if !isAtext(local[i]) && local[i] != '.' {
				return "", "", fmt.Errorf("%w: %q must be quoted", ErrAddress, local[i])
			}
		}
		return local, domain, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i == len(s) {
				return "", "", fmt.Errorf("%w: unfinished quoted pair", ErrAddress)
			}
			b.WriteByte(s[i])
		case '"':
			if i+1 == len(s) || s[i+1] != '@' {
				return "", "", fmt.Errorf("%w: no domain after the quoted local part", ErrAddress)
			}
			if b.Len() == 0 {
				return "", "", fmt.Errorf("%w: empty local part", ErrAddress)
			}
			return b.String(), s[i+2:], nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("%w: unfinished quoted local part", ErrAddress)
}

func parseDomain(d string) (string, error) {
	if strings.HasPrefix(d, "[") {
		return parseLiteral(d)
	}
	d = strings.TrimSuffix(d, ".")
	if d == "" || len(d) > MaxDomain {
		return "", fmt.Errorf("%w: domain missing or too long", ErrAddress)
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%w: bad label %q in the domain", ErrAddress, label)
		}
		for i := range len(label) {
			if c := label[i]; !isLetterDigit(c) && c != '-' && c != '_' && c < 0x80 {
				return "", fmt.Errorf("%w: %q in the domain", ErrAddress, c)
			}
		}
	}
	return lowerASCII(d), nil
}

func parseLiteral(d string) (string, error) {
	inner, ok := strings.CutSuffix(d[1:], "]")
	if !ok {
		return "", fmt.Errorf("%w: unfinished address literal", ErrAddress)
	}
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is4() == v6 {
		return "", fmt.Errorf("%w: bad address literal", ErrAddress)
	}
	if v6 {
		return "[IPv6:" + ip.String() + "]", nil
	}
	return "[" + ip.String() + "]", nil
}

// LiteralIP is the address inside an address literal.
func (a Address) LiteralIP() (netip.Addr, bool) {
	if !a.IsLiteral() {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(strings.TrimPrefix(a.Domain[1:len(a.Domain)-1], "IPv6:"))
	return ip, err == nil
}

// quoteLocal quotes a local part unless it is a dot-string.
func quoteLocal(local string) string {
	plain := local != "" && local[0] != '.' && local[len(local)-1] != '.' && !strings.Contains(local, "..")
	for i := 0; plain && i < len(local); i++ {
		plain = isAtext(local[i]) || local[i] == '.'
	}
	if plain {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(local) {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isAtext reports an atext octet (RFC 5322 §3.2.3, RFC 6531 §3.3).
func isAtext(c byte) bool {
	return isLetterDigit(c) || c >= 0x80 || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isLetterDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
