package queue

import "context"

// progress is how far LEDGER goes, counted from 1 and 0 when that is not known,
// how far it was read, and whether that was enough once.
type progress struct {
	last, read uint64
	current    bool
}

func (s *Settled) progress(ctx context.Context) (p progress) {
	if ledger, err := s.bus.JS.Stream(ctx, StreamLedger); err == nil {
		p.last = ledger.CachedInfo().State.LastSeq + 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.read = s.read.Seq
	select {
	case <-s.current:
		p.current = true
	default:
	}
	return p
}

// silent reports that nothing came although there was more: a consumer can live
// and give nothing (one made while a cluster lost its quorum was seen to). What
// LEDGER has more may be no end of a recipient; to begin again costs little.
func (p progress) silent(before progress) bool {
	more := !p.current || before.last > 0 && p.last > before.last
	return more && p.read == before.read
}
