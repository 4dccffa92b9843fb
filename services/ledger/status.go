package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
)

// status tells how far the index is and what is in it.
func (l *Ledger) status(ctx context.Context, _ struct{}) (*books.Status, error) {
	info, err := l.ledgerInfo(ctx)
	if err != nil {
		return nil, err
	}
	s := &books.Status{Instance: l.instance, Seq: l.position.get(), Last: info.State.LastSeq, States: map[string]int{}}
	for _, name := range books.States {
		s.States[name] = 0
	}
	rows, err := l.index.reader.QueryContext(ctx, "SELECT what, sum(n) FROM tally GROUP BY what")
	if err != nil {
		return nil, fmt.Errorf("read tally: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var what, n int
		if err := rows.Scan(&what, &n); err != nil {
			return nil, fmt.Errorf("read tally: %w", err)
		}
		switch {
		case what < int(states):
			s.States[books.States[what]] = n
		case what == sumMessages:
			s.Messages = n
		case what == sumDuplicates:
			s.PossibleDuplicates = n
		case what == sumConflicts:
			s.Conflicts = n
		case what == sumHeld:
			s.Held = n
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read tally: %w", err)
	}
	if err := l.index.reader.QueryRowContext(ctx, "SELECT unreadable FROM checkpoint").Scan(&s.Unreadable); err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if s.Recovery, err = l.recoveryFound(ctx); err != nil {
		return nil, err
	}
	s.Residual = int(l.residual.Load())
	if stuck := l.stuck.Load(); stuck != nil {
		s.Stuck = (*stuck).Error()
	}
	// What cannot be read the purge says; the rest of the status stands.
	if overdue, _ := l.overdue(ctx, time.Now()); overdue.Seconds > overdueGrace.Seconds() {
		s.Overdue = &overdue
	}
	err = l.bus.CheckLedger(ctx)
	if errors.Is(err, queue.ErrRolledBack) {
		s.RolledBack, err = err.Error(), nil
	}
	return s, err
}

// overdueGrace is how long beyond the retention content may stay before the
// status says so: a purge comes every minute, and does much at a time.
const overdueGrace = 10 * time.Minute

// Periods of the watch.
const (
	statusPeriod  = 10 * time.Second
	balancePeriod = time.Minute
)

// watch keeps the metrics up to date and the index within the age of LEDGER,
// until ctx ends.
func (l *Ledger) watch(ctx context.Context) error {
	status, balance := time.NewTicker(statusPeriod), time.NewTimer(balancePeriod)
	defer status.Stop()
	defer balance.Stop()
	watched := &watchedBalance{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-status.C:
			l.watchStatus(ctx)
		case <-balance.C:
			balance.Reset(l.watchBalance(ctx, watched))
		}
	}
}

func (l *Ledger) watchStatus(ctx context.Context) {
	l.opened.RLock()
	defer l.opened.RUnlock()
	s, err := l.status(ctx, struct{}{})
	if err != nil {
		if ctx.Err() == nil {
			l.log.Warn().Err(err).Msg("cannot read the status of the index")
		}
		return
	}
	l.metrics.status(s)
}

// watchedBalance is what the last balance of the watch rested on.
type watchedBalance struct {
	streams  string
	balanced bool
	residual int
}

// askForLook asks recovery to look at what is lost, and not to wait for its time.
func (l *Ledger) askForLook(b *books.Balance) {
	if !slices.ContainsFunc(b.Offending, func(p books.Pair) bool { return p.Problem == books.ProblemLost }) {
		return
	}
	select {
	case l.unbalanced <- struct{}{}:
	default:
	}
}

// watchBalance finds the residual, unless nothing has moved since it was
// found to be none, and says when to look again: counting a long queue takes
// a tenth of the time at most.
func (l *Ledger) watchBalance(ctx context.Context, last *watchedBalance) time.Duration {
	l.opened.RLock()
	defer l.opened.RUnlock()
	streams, err := l.fingerprint(ctx)
	if err == nil && last.balanced && streams == last.streams {
		l.metrics.balanced.SetToCurrentTime()
		return balancePeriod
	}
	began := time.Now()
	b, err := l.balance(ctx, books.BalanceQuestion{})
	if err != nil {
		last.balanced = false
		if ctx.Err() == nil {
			l.log.Warn().Err(err).Msg("cannot find the balance")
		}
		return balancePeriod
	}
	l.metrics.residual.Set(float64(b.Residual))
	l.residual.Store(int64(b.Residual))
	l.metrics.balanced.SetToCurrentTime()
	if !b.Balances() {
		if b.Residual != last.residual {
			l.askForLook(b)
		}
		l.log.Error().Int("residual", b.Residual).Interface("offending", b.Offending).Msg("the books do not balance")
	}
	*last = watchedBalance{streams, b.Balances(), b.Residual}
	return max(balancePeriod, 10*time.Since(began))
}
