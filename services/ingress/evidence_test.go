package ingress

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queuetest"
)

// keeper is a REFUSED in memory.
type keeper struct {
	fail error

	mu   sync.Mutex
	kept []event.Refusal
}

func (k *keeper) keep(_ context.Context, r event.Refusal) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.kept = append(k.kept, r)
	}
	return k.fail
}

// count is the records kept, those of one refusal, and the refusals in all.
func (k *keeper) count() (records, singly, together int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.kept {
		if r.Count == 1 {
			singly++
		}
		together += r.Count
	}
	return len(k.kept), singly, together
}

func (k *keeper) evidence(t *testing.T) *evidence {
	return newEvidence(k.keep, queuetest.Log(t), prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"}))
}

func refusalFrom(address, rule string) event.Refusal {
	return event.Refusal{Ref: mail.NewRef(), Stage: "rcpt", Rule: rule, Count: 1, Facts: authz.Facts{Address: netip.MustParseAddr(address)}}
}

// Of one address and minute the first 20 are kept singly, whatever they were
// for, the rest counted by rule; the next minute begins anew.
func TestEvidenceOfOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		k := &keeper{}
		e := k.evidence(t)
		done := make(chan struct{})
		go func() { defer close(done); e.run(ctx) }()
		for i := range 50 {
			e.add(refusalFrom("192.0.2.1", []string{"sender", "not-registered"}[i%2]))
		}
		e.add(refusalFrom("192.0.2.2", "sender"))
		synctest.Wait()
		if _, singly, together := k.count(); singly != 21 || together != 21 {
			t.Errorf("at first %d singly, %d together", singly, together)
		}
		time.Sleep(evidenceMinute)
		synctest.Wait()
		if records, _, together := k.count(); records != 23 || together != 51 {
			t.Errorf("after a minute %d records of %d refusals", records, together)
		}
		e.add(refusalFrom("192.0.2.1", "sender"))
		synctest.Wait()
		if records, _, _ := k.count(); records != 24 {
			t.Error("the next minute does not begin anew")
		}
		for range 30 {
			e.add(refusalFrom("192.0.2.1", "sender"))
		}
		cancel()
		<-done
		if _, _, together := k.count(); together != 82 {
			t.Errorf("%d refusals kept at the stop, want 82", together)
		}
	})
}

// Addresses without end use bounded memory and stay counted.
func TestEvidenceOfManyAddresses(t *testing.T) {
	k := &keeper{}
	e := k.evidence(t)
	address := netip.MustParseAddr("10.0.0.0")
	for range evidencePeers + 500 {
		address = address.Next()
		e.add(refusalFrom(address.String(), "sender"))
	}
	if len(e.singles) > evidencePeers+1 {
		t.Errorf("%d tallies", len(e.singles))
	}
	e.finish(t.Context()) // nobody stored meanwhile: what the queue had no place for is counted
	if records, _, together := k.count(); together != evidencePeers+500 || records != evidencePeers+1 {
		t.Errorf("%d records of %d refusals", records, together)
	}
	for i := range 100 { // one host of IPv6
		a := netip.MustParseAddr("2001:db8::").As16()
		a[15] = byte(i)
		e.add(refusalFrom(netip.AddrFrom16(a).String(), "sender"))
	}
	if len(e.singles) != 1 {
		t.Errorf("%d tallies for one /64", len(e.singles))
	}
}

// A flood from one address takes no place from the refusals of others, also
// while nobody stores.
func TestEvidenceOfOthersInAFlood(t *testing.T) {
	k := &keeper{}
	e := k.evidence(t)
	for range 2 * evidenceQueue {
		e.add(refusalFrom("192.0.2.1", "not-registered"))
	}
	e.add(refusalFrom("192.0.2.2", "sender"))
	e.finish(t.Context())
	records, singly, together := k.count()
	if records != evidenceSingles+2 || singly != evidenceSingles+1 || together != 2*evidenceQueue+1 {
		t.Errorf("%d records, %d singly, of %d refusals", records, singly, together)
	}
}

// What cannot be kept is counted as dropped, and no session waits for it.
func TestEvidenceDropped(t *testing.T) {
	k := &keeper{fail: errors.New("no store")}
	e := k.evidence(t)
	for range evidenceQueue + 7 {
		e.add(refusalFrom("192.0.2.1", "sender"))
	}
	if got := testutil.ToFloat64(e.dropped); got != 0 {
		t.Errorf("%v dropped before anybody stored", got)
	}
	e.finish(t.Context())
	if got := testutil.ToFloat64(e.dropped); got != evidenceQueue+7 {
		t.Errorf("%v dropped in all", got)
	}
}
