package dnsx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// MX gives the MX records of a domain. Which hosts to use is said by Hosts.
func (r *Resolver) MX(ctx context.Context, domain string) (MXAnswer, error) {
	records, meta, err := r.records(ctx, domain, dns.TypeMX)
	a := MXAnswer{Meta: meta}
	for _, rr := range records {
		if mx := rr.(*dns.MX); mx.Mx == "." {
			a.Records = append(a.Records, MX{".", mx.Preference})
		} else if host, err := ToASCII(mx.Mx); err == nil {
			a.Records = append(a.Records, MX{host, mx.Preference})
		}
	}
	return a, err
}

// Addrs gives the addresses of a host: AAAA and A, asked in parallel. A
// failure of one of them counts only when the other has no address. "localhost"
// and names below it are never asked for (RFC 6761 §6.3).
func (r *Resolver) Addrs(ctx context.Context, host string) (AddrAnswer, error) {
	if name, err := ToASCII(host); err == nil && isLocalhost(name) {
		return AddrAnswer{
			Meta:  Meta{Canonical: name, TTL: maxTTL},
			Addrs: []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})},
		}, nil
	}
	var v6 AddrAnswer
	var err6 error
	done := make(chan struct{})
	go func() {
		defer close(done)
		v6, err6 = r.addrs(ctx, host, dns.TypeAAAA)
	}()
	v4, err4 := r.addrs(ctx, host, dns.TypeA)
	<-done
	return both(v6, err6, v4, err4)
}

func (r *Resolver) addrs(ctx context.Context, host string, qtype uint16) (AddrAnswer, error) {
	records, meta, err := r.records(ctx, host, qtype)
	a := AddrAnswer{Meta: meta}
	for _, rr := range records {
		var octets []byte
		switch rr := rr.(type) {
		case *dns.A:
			octets = rr.A
		case *dns.AAAA:
			octets = rr.AAAA
		}
		if ip, ok := netip.AddrFromSlice(octets); ok && !slices.Contains(a.Addrs, ip.Unmap()) {
			a.Addrs = append(a.Addrs, ip.Unmap())
		}
	}
	return a, err
}

// both is one answer of the two queries. With addresses it is an answer.
// Without, a failure comes before a no, and "exists" before "does not": some
// servers deny the name when they merely have no AAAA.
func both(v6 AddrAnswer, err6 error, v4 AddrAnswer, err4 error) (AddrAnswer, error) {
	switch {
	case err6 == nil && err4 == nil:
		for _, ip := range v4.Addrs {
			if !slices.Contains(v6.Addrs, ip) {
				v6.Addrs = append(v6.Addrs, ip)
			}
		}
		v6.Authentic = v6.Authentic && v4.Authentic
		v6.TTL = min(v6.TTL, v4.TTL)
		return v6, nil
	case err6 == nil:
		v6.Missing = trouble(err4)
		return v6, nil
	case err4 == nil:
		v4.Missing = trouble(err6)
		return v4, nil
	case trouble(err4) != nil:
		return v4, err4
	case trouble(err6) != nil:
		return v6, err6
	case errors.Is(err6, ErrNoData):
		return v6, err6
	}
	return v4, err4
}

// trouble is err unless it is a definite answer.
func trouble(err error) error {
	if Temporary(err) {
		return err
	}
	return nil
}

// PTR gives the names of an address. Anybody may write anything there:
// ForwardConfirmed tells which are true.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) (PTRAnswer, error) {
	name, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return PTRAnswer{}, fmt.Errorf("%w: %q is no address", ErrName, addr)
	}
	records, meta, err := r.answerTo(ctx, question{name, dns.TypePTR})
	a := PTRAnswer{Meta: meta}
	for _, rr := range records {
		if name, err := ToASCII(rr.(*dns.PTR).Ptr); err == nil && !slices.Contains(a.Names, name) {
			a.Names = append(a.Names, name)
		}
	}
	if err == nil && len(a.Names) == 0 {
		err = fmt.Errorf("look up PTR %s: none is a host name: %w", addr, ErrNoData)
	}
	return a, err
}

// TXT gives the texts of a name.
func (r *Resolver) TXT(ctx context.Context, name string) (TXTAnswer, error) {
	records, meta, err := r.records(ctx, name, dns.TypeTXT)
	a := TXTAnswer{Meta: meta}
	for _, rr := range records {
		a.Texts = append(a.Texts, unescape(strings.Join(rr.(*dns.TXT).Txt, "")))
	}
	return a, err
}

// records asks for the records of a name.
func (r *Resolver) records(ctx context.Context, name string, qtype uint16) ([]dns.RR, Meta, error) {
	q, err := newQuestion(name, qtype)
	if err != nil {
		return nil, Meta{}, err
	}
	return r.answerTo(ctx, q)
}

func (r *Resolver) answerTo(ctx context.Context, q question) ([]dns.RR, Meta, error) {
	e, err := r.lookup(ctx, q)
	if err != nil {
		return nil, Meta{}, err
	}
	if e.answer.no != nil {
		err = fmt.Errorf("look up %s: %w", q, e.answer.no)
	}
	return e.answer.records, e.meta(time.Now()), err
}

func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
