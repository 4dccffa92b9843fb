package dnsx

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// MaxNames is how many names of one address ForwardConfirmed looks at: whoever
// owns the address decides how many there are.
const MaxNames = 5

// ForwardConfirmed gives the names of an address that lead back to it, sorted:
// PTR, then A and AAAA (RFC 8601 §3 calls it iprev). Of more than MaxNames the
// first in the alphabet are looked at, so that the result does not change from
// query to query.
//
// Without any name the error says why: ErrNotExist or ErrNoData, the address
// has no name; ErrNotConfirmed, none of its names is true; otherwise, as
// Temporary tells, it could not be found out.
func (r *Resolver) ForwardConfirmed(ctx context.Context, addr netip.Addr) ([]string, error) {
	addr = addr.Unmap().WithZone("")
	ptr, err := r.PTR(ctx, addr)
	if err != nil {
		return nil, err
	}
	claimed := slices.Sorted(slices.Values(ptr.Names))
	claimed = claimed[:min(len(claimed), MaxNames)]

	results := make([]error, len(claimed))
	var wg sync.WaitGroup
	for i, name := range claimed {
		wg.Go(func() { results[i] = r.confirm(ctx, name, addr) })
	}
	wg.Wait()
	return confirmed(addr, claimed, results)
}

// confirm is nil when the name has the address.
func (r *Resolver) confirm(ctx context.Context, name string, addr netip.Addr) error {
	a, err := r.Addrs(ctx, name)
	switch {
	case err != nil:
		return err
	case slices.Contains(a.Addrs, addr):
		return nil
	case a.Missing != nil:
		return a.Missing
	}
	return ErrNotConfirmed
}

// confirmed sums up: the confirmed names; else what could not be found out;
// else a no.
func confirmed(addr netip.Addr, claimed []string, results []error) ([]string, error) {
	var names []string
	var unknown error
	for i, err := range results {
		switch {
		case err == nil:
			names = append(names, claimed[i])
		case Temporary(err) && unknown == nil:
			unknown = err
		}
	}
	switch {
	case len(names) > 0:
		return names, nil
	case unknown != nil:
		return nil, unknown
	}
	return nil, fmt.Errorf("confirm %s: %w", addr, ErrNotConfirmed)
}
