//go:build crashpoints

package crashpoints

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtptest"
)

// judge holds the MX and the books against what the client was told.
func (r *relay) judge(t *testing.T, res *result) {
	t.Helper()
	m := res.probe
	good, reports := r.copies(m.good), r.copies(m.sender)
	res.copies, res.reports = len(good), len(reports)
	message, err := r.trace(t, m.good)
	if errors.Is(err, books.ErrNotFound) && m.told != accepted {
		if len(good)+len(reports) > 0 {
			t.Errorf("%s: %d copies and %d reports of a message that the books do not know", res, len(good), len(reports))
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", res, err)
		return
	}
	if m.id != "" && message.Messages[0].QueueID != m.id {
		t.Errorf("%s: client was told %s, the books have %s", res, m.id, message.Messages[0].QueueID)
	}
	expect(t, res, message, m.good, event.Delivered, good)
	expect(t, res, message, m.bad, event.Bounced, nil)
	report, err := r.trace(t, m.sender)
	if err != nil {
		t.Errorf("%s: report: %v", res, err)
		return
	}
	expect(t, res, report, m.sender, event.Delivered, reports)
	if len(good)+len(reports) > 3 {
		t.Errorf("%s: %d copies and %d reports after one kill", res, len(good), len(reports))
	}
}

// trace is what the books say about the one message to a recipient.
func (r *relay) trace(t *testing.T, recipient string) (*books.Trace, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	trace, err := books.Client(r.Bus).Trace(ctx, recipient)
	if err != nil {
		return nil, err
	}
	for _, message := range trace.Messages {
		if one, err := books.Client(r.Bus).Trace(ctx, string(message.QueueID)); err != nil {
			return nil, err
		} else if stateOf(one, recipient) != "" {
			return one, nil
		}
	}
	return nil, books.ErrNotFound
}

// excuses reports that a second copy may have followed one of that time.
func (r result) excuses(recipient string, first time.Time) bool {
	return r.service == "delivery" && r.fired && first.Before(r.when) && !slices.Contains(r.recorded, recipient)
}

// stateOf is the state of a recipient; empty when it has no row.
func stateOf(trace *books.Trace, recipient string) string {
	for _, row := range trace.Recipients {
		if row.Recipient == recipient {
			return row.State
		}
	}
	return ""
}

// recorded are the recipients of a message, and of the report about it, that
// are delivered by what LEDGER holds now. Without a ledger service to ask it is
// nobody: that one sends no mail.
func (r *relay) recorded(t *testing.T, m *probe) (done []string) {
	t.Helper()
	if r.programs["ledger"].gone() {
		return nil
	}
	r.caughtUp(t)
	for _, recipient := range []string{m.good, m.sender} {
		trace, err := r.trace(t, recipient)
		if err != nil && !errors.Is(err, books.ErrNotFound) {
			t.Fatal(err)
		}
		if err == nil && stateOf(trace, recipient) == string(event.Delivered) {
			done = append(done, recipient)
		}
	}
	return done
}

// caughtUp waits until the books have all that LEDGER holds: an export answers
// only then.
func (r *relay) caughtUp(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := books.Client(r.Bus).Export(ctx, books.Filter{Destination: "nowhere.test"}, func(books.Row) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// expect checks the row of a recipient, and the copies that it got. A second
// one is excused where delivery was killed between the dot of the first, which
// the MX had, and its record.
func expect(t *testing.T, res *result, trace *books.Trace, recipient string, state event.Outcome, got []smtptest.Delivery) {
	t.Helper()
	for _, row := range trace.Recipients {
		if row.Recipient != recipient {
			continue
		}
		if row.State != string(state) || row.Conflict {
			t.Errorf("%s: %s is %s in the books, conflict %t, want %s", res, recipient, row.State, row.Conflict, state)
		}
		if len(got) == 2 && !row.PossibleDuplicate {
			t.Errorf("%s: %s got two copies, and the books do not say possible_duplicate", res, recipient)
		}
	}
	switch {
	case state != event.Delivered || len(got) == 1:
	case len(got) == 2 && res.excuses(recipient, got[0].Time):
		if got[0].MessageID() != got[1].MessageID() || got[0].ReversePath != got[1].ReversePath {
			t.Errorf("%s: second copy for %s has Message-ID %s, the first %s", res, recipient, got[1].MessageID(), got[0].MessageID())
		}
	default:
		t.Errorf("%s: %s got %d copies, killed %t at %q", res, recipient, len(got), res.fired, res.at)
	}
}
