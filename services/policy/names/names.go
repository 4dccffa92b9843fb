// Package names asks the DNS about registered devices, so that ingress need not
// wait for it, nor refuse when it is down.
//
// Consumes: the registry, the DNS. Produces: entries "resolution.<device>" of the
// registry, by the actor "dns": when an address was last seen to have the
// device's name and the name the address (P22, P23), and the addresses of the
// name, from which a device that follows the DNS may send (P12). The history of
// the registry is the audit of every address that changed.
//
// Guarantees: one process at a time does so (a lease). Only a definite answer
// changes anything; a failure of the DNS leaves what it last said. A followed
// address must be in networks.campus, where there are any, and in no network that
// is denied: whoever writes a name into the DNS does not thereby write a relay.
//
// Limits: a name is asked for again after 12 hours, that of a device that follows
// the DNS after 15 minutes; lookups at a time are bounded.
package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

const (
	period  = time.Minute
	lookups = 16 // at a time
	most    = 5000
	actor   = "dns"
)

// DNS is what is asked.
type DNS interface {
	Addrs(ctx context.Context, host string) (dnsx.AddrAnswer, error)
	ForwardConfirmed(ctx context.Context, addr netip.Addr) ([]string, error)
}

// Names keeps what the DNS says of devices.
type Names struct {
	Bus      *queue.Bus
	Registry *store.Store
	DNS      DNS
	Log      zerolog.Logger
	Instance string
	// Confirm: a rule asks for confirmed names.
	Confirm bool

	// asked is when this process asked about a device; only Round touches it.
	asked map[string]time.Time
}

// Run makes rounds until ctx ends, while this process holds the lease.
func (n *Names) Run(ctx context.Context) error {
	return n.Bus.Lead(ctx, "names", n.Instance, func(ctx context.Context) {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := n.Round(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
				n.Log.Warn().Err(err).Msg("cannot keep what the DNS says of devices")
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
}

// Round asks about every device of which something is due now. Only one may run at
// a time; Run sees to that.
func (n *Names) Round(ctx context.Context, now time.Time) error {
	reg := n.Registry.Snapshot()
	if n.asked == nil {
		n.asked = map[string]time.Time{}
	}
	maps.DeleteFunc(n.asked, func(_ string, at time.Time) bool { return now.Sub(at) >= followEvery })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	asked := 0
	for _, d := range reg.Entries().Devices {
		old, _ := reg.Resolution(d.Name)
		if !due(d, old, n.Confirm, now) || now.Sub(n.asked[d.Name]) < followEvery {
			continue
		}
		if asked++; asked > most {
			break
		}
		n.asked[d.Name] = now
		group.Go(func() error { return n.one(ctx, reg, d, old, now) })
	}
	return group.Wait()
}

// one asks about one device, and stores what is new. What is not new is stored
// when it is due again, so that its age tells when it was asked.
func (n *Names) one(ctx context.Context, reg *registry.Snapshot, d *registry.Device, old *registry.Resolution, now time.Time) error {
	r, changed := next(d, old, n.ask(ctx, d), func(a netip.Addr) bool { return admits(reg, a) }, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if d.FollowDNS && !changed && now.Sub(r.At) < confirmEvery {
		return nil
	}
	r.Stamp(registry.Change{By: actor, Reason: "as the DNS says", At: now})
	err := n.Registry.Put(ctx, r)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrDuplicate) {
		return nil // another one was faster
	}
	if err != nil {
		return fmt.Errorf("store resolution of %s: %w", d.Name, err)
	}
	if old != nil && d.FollowDNS && changed {
		n.Log.Info().Str("device", d.Name).Any("from", old.Addresses).Any("to", r.Addresses).Msg("a device follows the DNS")
	}
	return nil
}

// admits reports an address that may be followed.
func admits(reg *registry.Snapshot, a netip.Addr) bool {
	kinds := reg.KindsOf(a)
	for _, k := range []registry.Kind{registry.KindDeny, registry.KindWorkstations, registry.KindDHCP, registry.KindResidential, registry.KindNAT} {
		if kinds.Has(k) {
			return false
		}
	}
	return kinds.Has(registry.KindCampus) || !reg.HasKind(registry.KindCampus)
}

func (n *Names) ask(ctx context.Context, d *registry.Device) answer {
	a := answer{confirmed: map[netip.Addr]bool{}}
	about := single(d)
	if d.FollowDNS {
		found, err := n.DNS.Addrs(ctx, d.Name)
		switch {
		case err == nil && found.Missing == nil: // half of an answer is none
			a.addresses = found.Addrs
			about = append(about, found.Addrs...)
		case errors.Is(err, dnsx.ErrNotExist) || errors.Is(err, dnsx.ErrNoData):
			a.addresses = []netip.Addr{}
		}
	}
	for _, addr := range about {
		names, err := n.DNS.ForwardConfirmed(ctx, addr)
		if has(names, d.Name) {
			a.confirmed[addr] = true
		} else if err == nil || definite(err) {
			a.confirmed[addr] = false
		}
	}
	return a
}

func definite(err error) bool {
	return errors.Is(err, dnsx.ErrNotExist) || errors.Is(err, dnsx.ErrNoData) || errors.Is(err, dnsx.ErrNotConfirmed)
}

func has(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(strings.TrimSuffix(n, "."), name) {
			return true
		}
	}
	return false
}
