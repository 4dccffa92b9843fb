package dnsx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/postrider/postrider/shared/smtp"
)

// MaxHosts is how many hosts of one domain are considered. A domain that needs
// more is out to keep us busy.
const MaxHosts = 20

// errUnusable: RFC 5321 §5.1 forbids to fall back to the address then.
var errUnusable = errors.New("no MX record names a host")

// Host takes the mail of a domain.
type Host struct {
	// Name is a host name to be resolved with Addrs.
	Name string
	// Preference is that of its MX record; 0 for an implicit MX.
	Preference uint16
	// Implicit: the domain has no MX and this is the domain itself (RFC 5321
	// §5.1).
	Implicit bool
	// Authentic: the MX records, or their absence and the addresses, are
	// vouched for. DANE needs it (RFC 7672 §2.2.1).
	Authentic bool
	// Stale: the MX records are past their end and could not be renewed.
	Stale bool
}

// Hosts is the route of mail for a domain (RFC 5321 §5.1): at most MaxHosts
// hosts, in the order in which to try them, never none without an error. What
// is wrong with the domain is an *smtp.Error: permanent for a null MX, for a
// domain that does not exist or has no mail server; transient for trouble with
// the DNS. The end of ctx is a plain error. A host may yet turn out to have no
// address, or one of this machine: that is for the caller, who has routes and
// rules of its own.
//
// rng decides among hosts of equal preference; nil is the random source of the
// process. A *rand.Rand is for one goroutine.
func (r *Resolver) Hosts(ctx context.Context, domain string, rng *rand.Rand) ([]Host, error) {
	mx, err := r.MX(ctx, domain)
	if errors.Is(err, ErrNoData) {
		return r.implicitMX(ctx, domain, mx.Authentic)
	}
	if err != nil {
		return nil, routeError(err)
	}
	hosts, err := Route(mx.Records, rng)
	for i := range hosts {
		hosts[i].Authentic, hosts[i].Stale = mx.Authentic, mx.Stale
	}
	return hosts, err
}

// implicitMX is the domain itself, if it has an address.
func (r *Resolver) implicitMX(ctx context.Context, domain string, noMX bool) ([]Host, error) {
	addrs, err := r.Addrs(ctx, domain)
	if err != nil {
		return nil, routeError(err)
	}
	name, err := ToASCII(domain)
	if err != nil {
		return nil, routeError(err)
	}
	return []Host{{Name: name, Implicit: true, Authentic: noMX && addrs.Authentic}}, nil
}

// Route orders the MX records of a domain: by preference, and at random among
// equals, so that hosts share the load (RFC 5321 §5.1). A host named twice
// counts once, where it is preferred. It fails, permanently, when the records
// say that the domain takes no mail (RFC 7505 §3) or name no host; a "." among
// hosts is ignored.
func Route(records []MX, rng *rand.Rand) ([]Host, error) {
	hosts := make([]Host, 0, len(records))
	for _, mx := range records {
		if mx.Host != "." {
			hosts = append(hosts, Host{Name: mx.Host, Preference: mx.Preference})
		}
	}
	if len(hosts) == 0 {
		if len(records) > 0 {
			return nil, smtp.Refuse(smtp.ReplyNullMX, nil)
		}
		return nil, smtp.Refuse(smtp.ReplyNoRoute, errUnusable)
	}
	shuffle := rand.Shuffle
	if rng != nil {
		shuffle = rng.Shuffle
	}
	shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })

	seen := make(map[string]bool, len(hosts))
	hosts = slices.DeleteFunc(hosts, func(h Host) bool {
		repeated := seen[h.Name]
		seen[h.Name] = true
		return repeated
	})
	return hosts[:min(len(hosts), MaxHosts)], nil
}

// routeError says what an error of the DNS means for the mail.
func routeError(err error) error {
	var temporary *TemporaryError
	switch {
	case errors.Is(err, ErrNotExist), errors.Is(err, ErrName):
		return smtp.Refuse(smtp.ReplyNoSuchDomain, err)
	case errors.Is(err, ErrNoData):
		return smtp.Refuse(smtp.ReplyNoRoute, err)
	case errors.As(err, &temporary):
		return smtp.Refuse(smtp.ReplyDNSTrouble, err)
	}
	return fmt.Errorf("route mail: %w", err)
}
