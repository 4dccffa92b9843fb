package smtptest

import (
	"context"
	"fmt"
	"sync"
)

// Counts are what happened so far.
type Counts struct {
	// Connections is the number of connections taken, Open of those that are
	// open, PeakOpen the most that were open at once.
	Connections, Open, PeakOpen int64
	// Stored is the number of messages in the store; Unacknowledged of them
	// got no reply.
	Stored, Unacknowledged int64
	// Recipients and Octets are the sums over the stored messages.
	Recipients, Octets int64
	// RefusedMail, RefusedRcpt and RefusedData count replies of 4yz and 5yz
	// to MAIL, to RCPT, and to DATA, BDAT or the end of the content.
	RefusedMail, RefusedRcpt, RefusedData int64
	// Dropped counts connections that the MX closed because it was told to.
	Dropped int64
	// CutOff counts messages that ended with the connection before their dot.
	CutOff int64
}

// tally keeps the Counts and wakes those who wait for a change.
type tally struct {
	mu      sync.Mutex
	counts  Counts
	changed chan struct{} // closed at the next change; nil when nobody waits
}

// add changes the counts by one step.
func (t *tally) add(step func(*Counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	step(&t.counts)
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// now returns the counts and what is closed at their next change.
func (t *tally) now() (Counts, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.counts, t.changed
}

// Counts returns what happened so far.
func (mx *MX) Counts() Counts {
	mx.tally.mu.Lock()
	defer mx.tally.mu.Unlock()
	return mx.tally.counts
}

// Wait returns when at least n messages are stored, with those stored so far
// (none with a Store of one's own). A message is stored before its 250 is
// written.
func (mx *MX) Wait(ctx context.Context, n int) ([]Delivery, error) {
	err := mx.WaitFor(ctx, func(c Counts) bool { return c.Stored >= int64(n) })
	if err != nil {
		err = fmt.Errorf("wait for %d messages: %w", n, err)
	}
	return mx.Deliveries(), err
}

// WaitFor returns when the counts satisfy reached, or with the error of ctx.
func (mx *MX) WaitFor(ctx context.Context, reached func(Counts) bool) error {
	for {
		counts, changed := mx.tally.now()
		if reached(counts) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w with %+v", context.Cause(ctx), counts)
		}
	}
}
