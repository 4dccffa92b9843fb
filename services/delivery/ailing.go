package delivery

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ailingFor is how long an address that did not answer is tried last: without
// it, a dead first MX costs every message a connect timeout.
const ailingFor = 2 * time.Minute

// maxAiling bounds the addresses remembered.
const maxAiling = 10_000

// ailing are the addresses that did not answer lately.
type ailing struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

func newAiling() *ailing { return &ailing{until: map[netip.AddrPort]time.Time{}} }

// add notes that an address did not answer.
func (a *ailing) add(addr netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.until) >= maxAiling {
		clear(a.until) // rather forget than grow: it costs time, not mail
	}
	a.until[addr] = time.Now().Add(ailingFor)
}

// remove notes that an address answered.
func (a *ailing) remove(addr netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, addr)
}

// last puts those that did not answer behind the others.
func (a *ailing) last(targets []target) []target {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.until) == 0 {
		return targets
	}
	now := time.Now()
	rank := func(t target) int {
		until, ill := a.until[t.addr]
		switch {
		case ill && now.Before(until):
			return 1
		case ill:
			delete(a.until, t.addr)
		}
		return 0
	}
	slices.SortStableFunc(targets, func(x, y target) int { return rank(x) - rank(y) })
	return targets
}
