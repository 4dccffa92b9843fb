package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// addresses are the first and the last of a range.
type addresses struct{ first, last netip.Addr }

// parseRange reads "a", "a-b", "a/bits" and "a/mask".
func parseRange(s string) (addresses, error) {
	s = strings.TrimSpace(s)
	if low, high, ok := strings.Cut(s, "-"); ok {
		a, errA := netip.ParseAddr(strings.TrimSpace(low))
		b, errB := netip.ParseAddr(strings.TrimSpace(high))
		if err := errors.Join(errA, errB); err != nil || a.BitLen() != b.BitLen() || b.Less(a) {
			return addresses{}, fmt.Errorf("%q is no range of addresses", s)
		}
		return addresses{a.WithZone("").Unmap(), b.WithZone("").Unmap()}, nil
	}
	if address, mask, ok := strings.Cut(s, "/"); ok && strings.Contains(mask, ".") {
		m, err := netip.ParseAddr(mask)
		bits := 0
		if err == nil && m.Is4() {
			for _, octet := range m.As4() {
				for ; octet&0x80 != 0; octet <<= 1 {
					bits++
				}
			}
		}
		s = fmt.Sprintf("%s/%d", address, bits)
		if p, err := netip.ParsePrefix(fmt.Sprintf("255.255.255.255/%d", bits)); err != nil || p.Masked().Addr() != m {
			return addresses{}, fmt.Errorf("%q is no mask", mask)
		}
	}
	if p, err := netip.ParsePrefix(s); err == nil { // Exchange takes host bits as meant
		return addresses{p.Masked().Addr(), lastOf(p.Masked())}, nil
	}
	p, err := registry.ParseRange(s)
	if err != nil {
		return addresses{}, err
	}
	return addresses{p.Addr(), lastOf(p)}, nil
}

// lastOf is the last address of a range.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// prefixes is the range as the fewest prefixes that make it up.
func (a addresses) prefixes() (out []netip.Prefix) {
	for at := a.first; at.IsValid() && at.Compare(a.last) <= 0; {
		bits := at.BitLen()
		for bits > 0 {
			wider, _ := at.Prefix(bits - 1)
			if wider.Addr() != at || a.last.Less(lastOf(wider)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(at, bits)
		out = append(out, p)
		at = lastOf(p).Next()
	}
	return out
}

// holds reports that all of a prefix is in the range.
func (a addresses) holds(p netip.Prefix) bool {
	return p.Addr().BitLen() == a.first.BitLen() && a.first.Compare(p.Addr()) <= 0 && lastOf(p).Compare(a.last) <= 0
}

// narrower reports fewer addresses than another range of the same family.
func (a addresses) narrower(b addresses) bool {
	return less(sub(a.last, a.first), sub(b.last, b.first))
}

// sub is the distance of two addresses, octet by octet.
func sub(high, low netip.Addr) (out [16]byte) {
	h, l := high.As16(), low.As16()
	borrow := 0
	for i := 15; i >= 0; i-- {
		d := int(h[i]) - int(l[i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		out[i] = byte(d)
	}
	return out
}

func less(a, b [16]byte) bool { return string(a[:]) < string(b[:]) }
