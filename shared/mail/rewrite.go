package mail

import (
	"bytes"
	"net/mail"
	"strings"
)

// OriginalFrom is the field that keeps what was in a From field that was
// replaced. It is unstructured: what devices write there may be no address, so
// that the field Author (RFC 9057) cannot hold it.
const OriginalFrom = "X-Original-From"

// WithFrom is the header with one From field of that address, in the place of
// the first or at the end. Those that were there are kept as OriginalFrom.
func (h Header) WithFrom(address string) Header {
	from := append(append([]byte("From: <"), address...), ">\r\n"...)
	out := make(Header, 0, len(h)+len(from)+len(OriginalFrom))
	placed := false
	for f := range h.Fields() {
		if !strings.EqualFold(f.Name, "From") {
			out = append(out, f.Raw...)
			continue
		}
		if !placed {
			out, placed = append(out, from...), true
		}
		out = appendOriginal(out, f.Raw)
	}
	if !placed {
		out = append(out, from...)
	}
	return out
}

// appendOriginal renames a From field, and keeps its first line within 998
// octets (RFC 5322 §2.1.1).
func appendOriginal(out, raw []byte) []byte {
	body := raw[bytes.IndexByte(raw, ':')+1:]
	first, _, _ := bytes.Cut(body, []byte("\n"))
	out = append(append(out, OriginalFrom...), ':')
	if len(first) > 980 && len(bytes.TrimSpace(first)) > 0 {
		out = append(out, "\r\n "...)
	}
	return append(out, body...)
}

// CompleteFrom adds a domain to the single address of a From field that has
// none ("From: scanner", "From: Scanner <scanner>"), and reports that it did.
func (h Header) CompleteFrom(domain string) (Header, bool) {
	is := h.From()
	if is.Fields != 1 || !is.Unreadable {
		return h, false
	}
	value := h.Get("From")
	completed := value + "@" + domain
	if inner, ok := strings.CutSuffix(value, ">"); ok {
		completed = inner + "@" + domain + ">"
	}
	a, err := mail.ParseAddress(completed)
	if err != nil || !strings.HasSuffix(a.Address, "@"+domain) || strings.Count(a.Address, "@") != 1 {
		return h, false
	}
	return h.WithFrom(a.Address), true
}
