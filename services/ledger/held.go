package ledger

// held reports that nothing moves until a person has confirmed the plan of
// recovery, or until it is known that none is needed.
func (l *Ledger) held() bool { return l.holding.Load() }
