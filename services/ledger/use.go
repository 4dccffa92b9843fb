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
// each address, and the reports that came back.
const useSchema = `
CREATE TABLE uses (
	device  TEXT    NOT NULL,
	address TEXT    NOT NULL, -- the client's
	last    INTEGER NOT NULL,
	PRIMARY KEY (device, address)
) WITHOUT ROWID;
CREATE TABLE returned (
	device   TEXT    NOT NULL,
	queue_id TEXT    NOT NULL, -- of the report
	at       INTEGER NOT NULL,
	PRIMARY KEY (device, queue_id)
) WITHOUT ROWID;
`

// uses are the uses of a batch: a device sends many messages in one.
type uses struct {
	last     map[useKey]time.Time
	returned map[returnedKey]time.Time
}

type useKey struct {
	device  string
	address netip.Addr
}

type returnedKey struct {
	device string
	report mail.QueueID
}

// note takes what a record says of the use of a device. Noting it twice is
// noting it once.
func (u *uses) note(e *entry, r *event.Record) {
	if e.device == "" {
		return
	}
	switch {
	case r.Outcome == event.Entered && r.Message != nil && e.reportOf == "":
		key := useKey{e.device, r.Message.Facts.Address}
		if u.last == nil {
			u.last = map[useKey]time.Time{}
		}
		if at := r.Message.AcceptedAt; at.After(u.last[key]) {
			u.last[key] = at
		}
	case r.Outcome == event.Bounced && e.reportOf != "" && noMailbox(r):
		if u.returned == nil {
			u.returned = map[returnedKey]time.Time{}
		}
		u.returned[returnedKey{e.device, e.queueID}] = r.At
	}
}

// noMailbox reports a reply for good about the address (RFC 3463 §3.2). A full
// mailbox, a policy and an expiry are none.
func noMailbox(r *event.Record) bool {
	for i := range r.Recipients {
		if reply := r.Recipients[i].Reply; reply.Permanent() && strings.HasPrefix(reply.Status(), "5.1.") {
			return true
		}
	}
	return false
}

func (s *statements) writeUses(ctx context.Context, u *uses) error {
	for k, last := range u.last {
		if _, err := s.use.ExecContext(ctx, k.device, k.address.String(), nanos(last)); err != nil {
			return fmt.Errorf("write use: %w", err)
		}
	}
	for k, at := range u.returned {
		if _, err := s.returned.ExecContext(ctx, k.device, string(k.report), nanos(at)); err != nil {
			return fmt.Errorf("write returned report: %w", err)
		}
	}
	return nil
}

// forgetUses forgets the reports that nobody counts any more, and uses of
// before LEDGER.
func (x *index) forgetUses(ctx context.Context, now, horizon time.Time) error {
	if _, err := x.conn.ExecContext(ctx, "DELETE FROM returned WHERE at < ?", nanos(now.Add(-books.ReturnedFor))); err != nil {
		return fmt.Errorf("forget returned reports: %w", err)
	}
	if _, err := x.conn.ExecContext(ctx, "DELETE FROM uses WHERE last < ?", nanos(horizon)); err != nil {
		return fmt.Errorf("forget uses: %w", err)
	}
	return nil
}

// use answers the question of that name.
func (l *Ledger) use(ctx context.Context, _ []byte, out *output) error {
	returned, err := l.returned(ctx)
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
		u.Undeliverable = returned[u.Device]
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

func (l *Ledger) returned(ctx context.Context) (map[string][]time.Time, error) {
	rows, err := l.index.reader.QueryContext(ctx, "SELECT device, at FROM returned ORDER BY device, at")
	if err != nil {
		return nil, fmt.Errorf("read returned reports: %w", err)
	}
	defer rows.Close()
	out := map[string][]time.Time{}
	for rows.Next() {
		var device string
		var at int64
		if err := rows.Scan(&device, &at); err != nil {
			return nil, fmt.Errorf("read returned reports: %w", err)
		}
		out[device] = append(out[device], instant(at))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read returned reports: %w", err)
	}
	return out, nil
}
