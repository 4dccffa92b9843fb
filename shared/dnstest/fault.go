package dnstest

import (
	"sync"
	"time"
)

// Fault is a way to answer wrongly.
type Fault int

const (
	// NoFault answers from the zone.
	NoFault Fault = iota
	// ServFail answers SERVFAIL.
	ServFail
	// Refused answers REFUSED.
	Refused
	// NotImplemented answers NOTIMP.
	NotImplemented
	// Silent never answers, over UDP or TCP.
	Silent
	// Truncated answers over UDP with TC and no records, over TCP rightly.
	Truncated
	// TruncatedSilent answers over UDP with TC, over TCP never.
	TruncatedSilent
	// WrongQuestion gives the right records, with the right ID, to a question
	// nobody asked.
	WrongQuestion
	// WrongID answers with another ID.
	WrongID
	// Lame answers with a referral to the root, as a server does that does
	// not know the zone.
	Lame
	// OneLink answers with the first CNAME only, as a server does whose zones
	// end there.
	OneLink
	// Garbage answers with a record that cannot be read.
	Garbage
	// Extra adds records to the answer that belong to other names, as a
	// poisoner does: an MX, an A and a CNAME of the name "poison.test".
	Extra
)

// Fail gives a name a fault from now on, in place of an earlier one: for
// queries of the types, for example "AAAA", or of all when none is given.
// NoFault ends it. A fault for one type goes before that for all.
func (s *Server) Fail(name string, f Fault, types ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(types) == 0 {
		types = []string{""}
	}
	for _, qtype := range types {
		s.faults[faulty{canonical(name), qtype}] = f
	}
}

// faulty is what has a fault: a name, and a type unless it is for all.
type faulty struct{ name, qtype string }

// faultOf is the fault of a query. The caller holds mu.
func (s *Server) faultOf(name, qtype string) Fault {
	if f, ok := s.faults[faulty{name, qtype}]; ok {
		return f
	}
	return s.faults[faulty{name: name}]
}

// Delay answers queries for a name only after d; 0 ends it.
func (s *Server) Delay(name string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays[canonical(name)] = d
}

// Hold stops queries for a name until release is called. Each query that
// arrives sends on arrived, which holds up to 100 of them.
func (s *Server) Hold(name string) (arrived <-chan struct{}, release func()) {
	g := &gate{arrived: make(chan struct{}, 100), open: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[canonical(name)] = g
	return g.arrived, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gates[canonical(name)] == g {
			delete(s.gates, canonical(name))
		}
		g.once.Do(func() { close(g.open) })
	}
}

// gate is a point where queries wait.
type gate struct {
	arrived, open chan struct{}
	once          sync.Once
}

// pass waits for the gate and the delay. False means that the server closed.
// In a bubble closed is nil: a channel from outside would stop its clock.
func pass(g *gate, delay time.Duration, closed <-chan struct{}) bool {
	if g != nil {
		select {
		case g.arrived <- struct{}{}:
		default:
		}
		select {
		case <-g.open:
		case <-closed:
			return false
		}
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-closed:
			return false
		}
	}
	return true
}
