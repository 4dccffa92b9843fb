package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
)

// hoursSchema is what the index counts of each device by the hour in which the
// messages were accepted: whoever looks for abuse compares them.
const hoursSchema = `
CREATE TABLE hours (
	device     TEXT    NOT NULL,
	hour       INTEGER NOT NULL, -- since 1970
	messages   INTEGER NOT NULL,
	recipients INTEGER NOT NULL,
	unknown    INTEGER NOT NULL, -- recipients
	senders    INTEGER NOT NULL,
	suspect    INTEGER NOT NULL, -- messages
	bare       INTEGER NOT NULL, -- messages
	PRIMARY KEY (device, hour)
) WITHOUT ROWID;
CREATE INDEX hours_hour ON hours (hour);
CREATE TABLE hour_senders (
	device  TEXT    NOT NULL,
	hour    INTEGER NOT NULL,
	address TEXT    NOT NULL,
	PRIMARY KEY (device, hour, address)
) WITHOUT ROWID;
`

// hours are those of a batch.
type hours struct {
	counts  map[hourKey]*books.Hour
	senders map[senderKey]bool
}

type hourKey struct {
	device string
	hour   int64
}

type senderKey struct {
	hourKey
	address string
}

func hourOf(t time.Time) int64 { return t.Unix() / int64(time.Hour/time.Second) }

// mostSenders of one message are looked at.
const mostSenders = 100

// entered counts a message when its accepted record is read for the first time.
func (h *hours) entered(e *entry, m *event.MessageRecord, recipients int) {
	if e.device == "" || own(m) {
		return
	}
	key := hourKey{e.device, hourOf(m.AcceptedAt)}
	c := h.of(key)
	c.Messages++
	c.Recipients += recipients
	if m.Facts.Scan == authz.Hold || m.Facts.Scan == authz.Refuse {
		c.Suspect++
	}
	for _, q := range m.Quirks {
		if q.Name == event.MarkNoUnsubscribe {
			c.Bare++
		}
	}
	addresses := m.Facts.HeaderFrom
	if !m.ReversePath.IsNull() {
		addresses = append(addresses[:len(addresses):len(addresses)], m.ReversePath.Address.String())
	}
	if h.senders == nil {
		h.senders = map[senderKey]bool{}
	}
	for _, a := range addresses[:min(len(addresses), mostSenders)] {
		h.senders[senderKey{key, strings.ToLower(a)}] = true
	}
}

// unknown counts recipients of a device's mail who turned out to have no mailbox.
func (h *hours) unknown(e *entry, n int) {
	if n > 0 && e.device != "" && e.reportOf == "" {
		h.of(hourKey{e.device, hourOf(e.acceptedAt)}).Unknown += n
	}
}

func (h *hours) of(k hourKey) *books.Hour {
	if h.counts == nil {
		h.counts = map[hourKey]*books.Hour{}
	}
	if h.counts[k] == nil {
		h.counts[k] = &books.Hour{}
	}
	return h.counts[k]
}

// nowUnknown is how many recipients a record settles for want of a mailbox: those
// who were not settled before it.
func (a *account) nowUnknown(r *event.Record) (n int) {
	if r.Outcome != event.Bounced {
		return 0
	}
	for i := range r.Recipients {
		rr := &r.Recipients[i]
		if rcpt := a.recipients[rr.Address.String()]; (rcpt == nil || rcpt.state == queued) && isUnknown(rr) {
			n++
		}
	}
	return n
}

func (s *statements) writeHours(ctx context.Context, h *hours) error {
	for k := range h.senders {
		done, err := s.hourSender.ExecContext(ctx, k.device, k.hour, k.address)
		if err != nil {
			return fmt.Errorf("write sender of an hour: %w", err)
		}
		if n, err := done.RowsAffected(); err == nil && n > 0 {
			h.of(k.hourKey).Senders++
		}
	}
	for k, c := range h.counts {
		if _, err := s.hour.ExecContext(ctx, k.device, k.hour, c.Messages, c.Recipients, c.Unknown, c.Senders, c.Suspect, c.Bare); err != nil {
			return fmt.Errorf("write hour: %w", err)
		}
	}
	return nil
}

// forgetHours forgets what is too old to be compared with.
func (x *index) forgetHours(ctx context.Context, now time.Time) error {
	for statement, age := range map[string]time.Duration{
		"DELETE FROM hours WHERE hour < ?": books.UsualFor + 2*time.Hour, "DELETE FROM hour_senders WHERE hour < ?": 24 * time.Hour,
	} {
		if _, err := x.conn.ExecContext(ctx, statement, hourOf(now.Add(-age))); err != nil {
			return fmt.Errorf("forget hours: %w", err)
		}
	}
	return nil
}

// activity is what a device did lately, and what it usually does.
type activity struct {
	recent []books.Hour
	usual  books.Hour
}

// activities are those of every device that sent in this hour or the one before.
func (l *Ledger) activities(ctx context.Context, now time.Time) (map[string]*activity, error) {
	recent := hourOf(now) - 1
	found := map[string]*activity{}
	read := func(query string, take func(a *activity, h books.Hour), args ...any) error {
		rows, err := l.index.reader.QueryContext(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("read hours: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var device string
			var hour int64
			var h books.Hour
			if err := rows.Scan(&device, &hour, &h.Messages, &h.Recipients, &h.Unknown, &h.Senders, &h.Suspect, &h.Bare); err != nil {
				return fmt.Errorf("read hours: %w", err)
			}
			h.Start = time.Unix(hour*int64(time.Hour/time.Second), 0).UTC()
			if found[device] == nil {
				found[device] = &activity{}
			}
			take(found[device], h)
		}
		return rows.Err()
	}
	if err := read("SELECT device, hour, messages, recipients, unknown, senders, suspect, bare FROM hours WHERE hour >= ? ORDER BY device, hour",
		func(a *activity, h books.Hour) { a.recent = append(a.recent, h) }, recent); err != nil {
		return nil, err
	}
	return found, read(`SELECT device, min(hour), max(messages), 0, 0, max(senders), 0, 0 FROM hours
		WHERE device IN (SELECT device FROM hours WHERE hour >= ?) AND hour < ? AND hour >= ? GROUP BY device`,
		func(a *activity, h books.Hour) { a.usual = h }, recent, recent, hourOf(now.Add(-books.UsualFor)))
}
