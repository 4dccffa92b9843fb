//go:build faults

package faults

import (
	"testing"
	"time"
)

// TestKills: every process in turn is killed at random moments and started
// again after a short pause. Full form: FAULT_MESSAGES=20000 FAULT_KILLS=30.
func TestKills(t *testing.T) {
	t.Parallel()
	messages, kills := size(t, 2000, 7)
	seeds(t, func(t *testing.T, seed uint64) {
		p := oneByOne(seed, messages, kills, between(100*time.Millisecond, 2*time.Second))
		under(t, p, (*rig).kill)
	})
}

// TestStops: the same, but the processes only stand still for five seconds.
// Nobody loses an answer by that: there is no budget for duplicates.
func TestStops(t *testing.T) {
	t.Parallel()
	messages, stops := size(t, 1000, 4)
	seeds(t, func(t *testing.T, seed uint64) {
		under(t, oneByOne(seed, messages, stops, always(5*time.Second)), (*rig).still)
	})
}

// TestAllAtOnce: everything dies at the same time.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) {
		p := allAtOnce(seed, 1500, 6, between(100*time.Millisecond, time.Second))
		under(t, p, (*rig).kill)
	})
}

// under carries out a plan under load and judges.
func under(t *testing.T, p plan, strike func(*rig, fault)) {
	t.Log(p)
	r := start(t, 1)
	l := r.submit("client", p.seed, p.messages, retries, p.think())
	r.apply(p, func(f fault) { strike(r, f) })
	l.accepted(p.messages)
	r.judge()
}
