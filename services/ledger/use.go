package ledger

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// useSchema is what the index knows of the use of devices: the last message from
// each address and over each listener, the reports that came back, and what failed.
const useSchema = `
CREATE TABLE uses (
	device  TEXT    NOT NULL,
	address TEXT    NOT NULL, -- the client's
	last    INTEGER NOT NULL,
	PRIMARY KEY (device, address)
) WITHOUT ROWID;
CREATE TABLE entrances (
	device   TEXT    NOT NULL,
	listener TEXT    NOT NULL,
	last     INTEGER NOT NULL,
	PRIMARY KEY (device, listener)
) WITHOUT ROWID;
CREATE TABLE returned (
	device   TEXT    NOT NULL,
	queue_id TEXT    NOT NULL, -- of the report
	at       INTEGER NOT NULL,
	PRIMARY KEY (device, queue_id)
) WITHOUT ROWID;
CREATE TABLE failures (
	device   TEXT    NOT NULL,
	queue_id TEXT    NOT NULL, -- of a message that is no report
	at       INTEGER NOT NULL,
	PRIMARY KEY (device, queue_id)
) WITHOUT ROWID;
`

// uses are the uses of a batch: a device sends many messages in one.
type uses struct {
	last     map[useKey]time.Time
	entered  map[entranceKey]time.Time
	returned map[returnedKey]time.Time
	failed   map[returnedKey]time.Time
	hours    hours
}

type useKey struct {
	device  string
	address netip.Addr
}

type entranceKey struct{ device, listener string }

type returnedKey struct {
	device string
	id     mail.QueueID
}

// later notes the last time of a key.
func later[K comparable](in *map[K]time.Time, key K, at time.Time) {
	if *in == nil {
		*in = map[K]time.Time{}
	}
	if at.After((*in)[key]) {
		(*in)[key] = at
	}
}

// note takes what a record says of the use of a device. Noting it twice is
// noting it once.
func (u *uses) note(e *entry, r *event.Record) {
	if e.device == "" {
		return
	}
	switch {
	case r.Outcome == event.Entered && r.Message != nil && !own(r.Message):
		m := r.Message
		later(&u.last, useKey{e.device, m.Facts.Address}, m.AcceptedAt)
		if m.Facts.Listener != "" {
			later(&u.entered, entranceKey{e.device, m.Facts.Listener}, m.AcceptedAt)
		}
	case r.Outcome == event.Bounced && e.reportOf != "" && noMailbox(r):
		later(&u.returned, returnedKey{e.device, e.queueID}, r.At)
	case (r.Outcome == event.Bounced || r.Outcome == event.Expired) && e.reportOf == "" && e.sender != "":
		later(&u.failed, returnedKey{e.device, e.queueID}, r.At)
	}
}

// own reports a message of the relay's own about a device: a report, or a notice to
// its contacts. That is no use of the device.
func own(m *event.MessageRecord) bool { return m.ReportOf != "" || m.Facts.Report }

// noMailbox reports a reply for good about the address (RFC 3463 §3.2). A full
// mailbox, a policy and an expiry are none.
func noMailbox(r *event.Record) bool {
	for i := range r.Recipients {
		if isUnknown(&r.Recipients[i]) {
			return true
		}
	}
	return false
}

func isUnknown(rr *event.RecipientRecord) bool {
	return rr.Reply.Permanent() && strings.HasPrefix(rr.Reply.Status(), "5.1.")
}

func (s *statements) writeUses(ctx context.Context, u *uses) error {
	for k, last := range u.last {
		if _, err := s.use.ExecContext(ctx, k.device, k.address.String(), nanos(last)); err != nil {
			return fmt.Errorf("write use: %w", err)
		}
	}
	for k, last := range u.entered {
		if _, err := s.entrance.ExecContext(ctx, k.device, k.listener, nanos(last)); err != nil {
			return fmt.Errorf("write use of a listener: %w", err)
		}
	}
	for k, at := range u.returned {
		if _, err := s.returned.ExecContext(ctx, k.device, string(k.id), nanos(at)); err != nil {
			return fmt.Errorf("write returned report: %w", err)
		}
	}
	for k, at := range u.failed {
		if _, err := s.failure.ExecContext(ctx, k.device, string(k.id), nanos(at)); err != nil {
			return fmt.Errorf("write failure: %w", err)
		}
	}
	return s.writeHours(ctx, &u.hours)
}

// forgetUses forgets the reports that nobody counts any more, and uses of
// before LEDGER.
func (x *index) forgetUses(ctx context.Context, now, horizon time.Time) error {
	if _, err := x.conn.ExecContext(ctx, "DELETE FROM returned WHERE at < ?", nanos(now.Add(-books.ReturnedFor))); err != nil {
		return fmt.Errorf("forget returned reports: %w", err)
	}
	if _, err := x.conn.ExecContext(ctx, "DELETE FROM failures WHERE at < ?", nanos(now.Add(-books.FailedFor))); err != nil {
		return fmt.Errorf("forget failures: %w", err)
	}
	for _, table := range []string{"uses", "entrances"} {
		if _, err := x.conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE last < ?", nanos(horizon)); err != nil {
			return fmt.Errorf("forget %s: %w", table, err)
		}
	}
	return x.forgetHours(ctx, now)
}

// use answers the question of that name.
func (l *Ledger) use(ctx context.Context, _ []byte, out *output) error {
	returned, err := l.returned(ctx)
	if err != nil {
		return err
	}
	entered, err := l.entered(ctx)
	if err != nil {
		return err
	}
	failed, err := l.failed(ctx, time.Now().Add(-books.FailedFor))
	if err != nil {
		return err
	}
	active, err := l.activities(ctx, time.Now())
	if err != nil {
		return err
	}
	rows, err := l.index.reader.QueryContext(ctx, "SELECT device, address, last FROM uses ORDER BY device, address")
	if err != nil {
		return fmt.Errorf("read uses: %w", err)
	}
	defer rows.Close()
	var u *books.Use
	tell := func() error {
		if u == nil {
			return nil
		}
		u.Undeliverable, u.Listeners, u.Failed = returned[u.Device], entered[u.Device], failed[u.Device]
		if a := active[u.Device]; a != nil {
			u.Recent, u.Usual = a.recent, a.usual
		}
		return out.Encode(u)
	}
	for rows.Next() {
		var device, address string
		var last int64
		if err := rows.Scan(&device, &address, &last); err != nil {
			return fmt.Errorf("read uses: %w", err)
		}
		if u == nil || u.Device != device {
			if err := tell(); err != nil {
				return err
			}
			u = &books.Use{Device: device, Addresses: map[netip.Addr]time.Time{}}
		}
		at := instant(last)
		if a, err := netip.ParseAddr(address); err == nil {
			u.Addresses[a] = at
		}
		if at.After(u.Last) {
			u.Last = at
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read uses: %w", err)
	}
	return tell()
}

// byDevice reads rows of a device and two more values.
func byDevice[V, W any](ctx context.Context, l *Ledger, take func(device string, v V, w W), query string, args ...any) error {
	rows, err := l.index.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read uses: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var device string
		var v V
		var w W
		if err := rows.Scan(&device, &v, &w); err != nil {
			return fmt.Errorf("read uses: %w", err)
		}
		take(device, v, w)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read uses: %w", err)
	}
	return nil
}

func (l *Ledger) returned(ctx context.Context) (map[string][]time.Time, error) {
	out := map[string][]time.Time{}
	take := func(device, _ string, at int64) { out[device] = append(out[device], instant(at)) }
	return out, byDevice(ctx, l, take, "SELECT device, queue_id, at FROM returned ORDER BY device, at")
}

func (l *Ledger) entered(ctx context.Context) (map[string]map[string]time.Time, error) {
	out := map[string]map[string]time.Time{}
	take := func(device, listener string, last int64) {
		if out[device] == nil {
			out[device] = map[string]time.Time{}
		}
		out[device][listener] = instant(last)
	}
	return out, byDevice(ctx, l, take, "SELECT device, listener, last FROM entrances")
}

// failed counts the messages that failed since then.
func (l *Ledger) failed(ctx context.Context, since time.Time) (map[string]int, error) {
	out := map[string]int{}
	take := func(device string, n int, _ int64) { out[device] = n }
	return out, byDevice(ctx, l, take, "SELECT device, count(*), max(at) FROM failures WHERE at > ? GROUP BY device", nanos(since))
}
