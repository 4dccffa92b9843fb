package translate

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// fqdn is a name with a dot and a letter in its last label.
var fqdn = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.[a-z0-9-]*[a-z][a-z0-9-]*$`)

// nameIn is the first word of a text that is the name of a host.
func nameIn(text string) string {
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune(" \t,;()", r) }) {
		if word = strings.TrimSuffix(word, "."); len(word) <= 253 && fqdn.MatchString(word) {
			return word
		}
	}
	return ""
}

// nameOf is the name that is made up for a range: host-10-2-3-4 for an address,
// net-10-2-0-0-16 for a range, and the same for the same range always.
func nameOf(r netip.Prefix, domain string) string {
	a := r.Addr().String()
	if r.Addr().Is6() {
		a = r.Addr().StringExpanded()
	}
	a = strings.NewReplacer(".", "-", ":", "-").Replace(a)
	if r.IsSingleIP() {
		return "host-" + a + "." + domain
	}
	return "net-" + a + "-" + strings.TrimPrefix(r.String()[strings.IndexByte(r.String(), '/'):], "/") + "." + domain
}

// label makes one label of a name of anything.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	s = strings.Trim(s, "-")
	return strings.TrimRight(s[:min(len(s), 50)], "-")
}

// covers reports that every address of inner is one of outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Addr().BitLen() == inner.Addr().BitLen() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func addressesOf(ranges ...netip.Prefix) []registry.Address {
	var out []registry.Address
	for _, r := range ranges {
		out = append(out, registry.Address{Range: r})
	}
	return out
}

// madeUp counts the devices whose name is not one of the input.
func madeUp(devices []*registry.Device, of spans) (n int) {
	known := map[string]bool{}
	for _, s := range of {
		known[s.name] = true
	}
	for _, d := range devices {
		if len(d.Addresses) > 0 && !known[d.Name] {
			n++
		}
	}
	return n
}

// ReadHosts reads names of addresses as a hosts file has them: "10.2.3.4
// prn-3.campus.test". The first name of a line counts, and the first line of an
// address.
func ReadHosts(name string, r io.Reader) (map[netip.Addr]string, error) {
	text, err := readAll(name, r)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		host := nameIn(strings.Join(words[1:], " "))
		if err != nil || host == "" {
			return nil, fmt.Errorf("%s:%d: this is not an address and its name", name, i+1)
		}
		if a = a.Unmap(); out[a] == "" {
			out[a] = host
		}
	}
	return out, nil
}
