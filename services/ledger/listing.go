package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// The durable consumers whose ack floors say what was handed on: of policy on
// every shard of MAIL, and of the signer on each lane of ADMITTED.
const (
	policyDurable = "policy"
	signerDurable = "signer-" // and the lane
)

var admittedLanes = [...]mail.Lane{mail.LaneAlert, mail.LaneNormal}

// listing is what lies in the streams: the recipients of every event that is
// not settled there. It is kept in temporary tables of one connection, so
// that a long queue costs disk and not memory. For recovery there is also what
// MAIL has stored, and whether policy took it.
//
// The streams are read from upstream to downstream. Every stage stores what
// follows from an event before it lets go of the event, so that whoever moves
// while the listing is made is met at least once; for what moves from DELIVER
// to HELD, see listHeldSince.
type listing struct {
	conn               *sql.Conn
	pair, mail, stored *sql.Stmt
	unreadable         int
	// ends are the last sequences of MAIL when they were listed.
	ends map[string]uint64
	// heldUpTo is the last sequence of HELD when it was listed first.
	heldUpTo uint64
}

func (x *index) newListing(ctx context.Context) (_ *listing, err error) {
	li := &listing{ends: map[string]uint64{}}
	defer func() {
		if err != nil {
			li.close()
			err = fmt.Errorf("make listing: %w", err)
		}
	}()
	if li.conn, err = x.reader.Conn(ctx); err != nil {
		return nil, err
	}
	_, err = li.conn.ExecContext(ctx, `
		CREATE TEMP TABLE listed (queue_id TEXT, address TEXT, owner TEXT, destination TEXT, PRIMARY KEY (queue_id, address)) WITHOUT ROWID;
		CREATE TEMP TABLE listed_mail (queue_id TEXT PRIMARY KEY, stream TEXT, seq INTEGER) WITHOUT ROWID;
		CREATE TEMP TABLE stored (queue_id TEXT PRIMARY KEY, stream TEXT, seq INTEGER, taken INTEGER) WITHOUT ROWID;`)
	if err != nil {
		return nil, err
	}
	if li.pair, err = li.conn.PrepareContext(ctx, "INSERT OR IGNORE INTO listed VALUES (?,?,?,?)"); err != nil {
		return nil, err
	}
	if li.mail, err = li.conn.PrepareContext(ctx, "INSERT OR IGNORE INTO listed_mail VALUES (?,?,?)"); err != nil {
		return nil, err
	}
	if li.stored, err = li.conn.PrepareContext(ctx, "INSERT OR IGNORE INTO stored VALUES (?,?,?,?)"); err != nil {
		return nil, err
	}
	return li, nil
}

// close gives the connection back without the tables.
func (li *listing) close() {
	for _, stmt := range []*sql.Stmt{li.pair, li.mail, li.stored} {
		if stmt != nil {
			stmt.Close()
		}
	}
	if li.conn != nil {
		li.conn.ExecContext(context.Background(), "DROP TABLE IF EXISTS temp.listed; DROP TABLE IF EXISTS temp.listed_mail; DROP TABLE IF EXISTS temp.stored")
		li.conn.Close()
	}
}

// fill lists every stream.
func (li *listing) fill(ctx context.Context, bus *queue.Bus) error {
	if _, err := li.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("make listing: %w", err)
	}
	err := errors.Join(li.listMail(ctx, bus), li.listHeld(ctx, bus), li.listAdmitted(ctx, bus), li.listDeliver(ctx, bus), li.listHeldSince(ctx, bus), li.listReport(ctx, bus))
	if err != nil {
		li.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	if _, err := li.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("make listing: %w", err)
	}
	return nil
}

// listMail lists what policy has not acknowledged. The messages carry their
// content, so only their headers are read: the id of the publish is the
// QueueID, and the recipients are in the accepted record.
func (li *listing) listMail(ctx context.Context, bus *queue.Bus) error {
	for n := range queue.Shards {
		stream := queue.MailStream(n)
		err := unacknowledgedMail(ctx, bus, stream, func(id mail.QueueID, seq uint64) error {
			_, err := li.mail.ExecContext(ctx, string(id), stream, seq)
			li.ends[stream] = max(li.ends[stream], seq)
			return err
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", stream, err)
		}
	}
	return nil
}

func (li *listing) listHeld(ctx context.Context, bus *queue.Bus) (err error) {
	s, err := bus.JS.Stream(ctx, queue.StreamHeld)
	if err != nil {
		return fmt.Errorf("list %s: %w", queue.StreamHeld, err)
	}
	li.heldUpTo = s.CachedInfo().State.LastSeq
	return bus.List(ctx, queue.StreamHeld, queue.HeldSubjects, 0, func(m *jetstream.RawStreamMsg) error { return li.addHeld(ctx, m) })
}

func (li *listing) addHeld(ctx context.Context, m *jetstream.RawStreamMsg) error {
	h, err := event.Decode[event.Held](m.Data)
	if err != nil {
		li.unreadable++
		return nil
	}
	return li.addRecipients(ctx, h.Message.QueueID, h.Message.Owner, h.Message.Env.Recipients)
}

// listHeldSince lists what came to HELD since it was listed: jobs that are held go
// there from DELIVER, against the stream. Where somebody decided meanwhile, one
// of them may be in DELIVER again.
func (li *listing) listHeldSince(ctx context.Context, bus *queue.Bus) error {
	decided := false
	err := bus.List(ctx, queue.StreamHeld, "", li.heldUpTo+1, func(m *jetstream.RawStreamMsg) error {
		if !strings.HasPrefix(m.Subject, "held.") {
			decided = true
			return nil
		}
		return li.addHeld(ctx, m)
	})
	if err == nil && decided {
		err = li.listDeliver(ctx, bus)
	}
	return err
}

func (li *listing) listAdmitted(ctx context.Context, bus *queue.Bus) error {
	return unsignedMail(ctx, bus, func(a *event.Admitted, err error) error {
		if err != nil {
			li.unreadable++
			return nil
		}
		return li.addRecipients(ctx, a.QueueID, a.Owner, a.Env.Recipients)
	})
}

func (li *listing) listDeliver(ctx context.Context, bus *queue.Bus) error {
	return bus.ListJobs(ctx, func(e queue.JobEntry) error {
		if e.Job == nil {
			li.unreadable++
			return nil
		}
		return li.addRecipients(ctx, e.Job.QueueID, e.Job.Owner, e.Job.Env.Recipients)
	})
}

func (li *listing) listReport(ctx context.Context, bus *queue.Bus) error {
	return bus.List(ctx, queue.StreamReport, "", 0, func(m *jetstream.RawStreamMsg) error {
		f, err := event.Decode[event.Failure](m.Data)
		if err != nil {
			li.unreadable++
			return nil
		}
		for i := range f.Recipients {
			a := f.Recipients[i].Address
			if _, err := li.pair.ExecContext(ctx, string(f.QueueID), a.String(), f.Owner, a.Domain); err != nil {
				return err
			}
		}
		return nil
	})
}

func (li *listing) addRecipients(ctx context.Context, id mail.QueueID, owner string, rcpts []mail.Recipient) error {
	for i := range rcpts {
		a := rcpts[i].Address
		if _, err := li.pair.ExecContext(ctx, string(id), a.String(), owner, a.Domain); err != nil {
			return err
		}
	}
	return nil
}

// unsignedMail hands every event of ADMITTED that the signer has not
// acknowledged to each, or why it cannot be read.
func unsignedMail(ctx context.Context, bus *queue.Bus, each func(*event.Admitted, error) error) error {
	for _, lane := range admittedLanes {
		floor, err := ackFloor(ctx, bus, queue.StreamAdmitted, signerDurable+string(lane))
		if err != nil {
			return err
		}
		filter := "admitted." + string(lane) + ".*"
		err = bus.List(ctx, queue.StreamAdmitted, filter, floor+1, func(m *jetstream.RawStreamMsg) error {
			return each(event.Decode[event.Admitted](m.Data))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unacknowledgedMail hands the QueueID of every message of a shard that policy
// has not acknowledged to each.
func unacknowledgedMail(ctx context.Context, bus *queue.Bus, stream string, each func(mail.QueueID, uint64) error) error {
	floor, err := ackFloor(ctx, bus, stream, policyDurable)
	if err != nil {
		return err
	}
	return mailFrom(ctx, bus, stream, floor+1, each)
}

// mailFrom hands the QueueID of every message of a shard from a sequence on to
// each.
func mailFrom(ctx context.Context, bus *queue.Bus, stream string, from uint64, each func(mail.QueueID, uint64) error) error {
	s, err := bus.JS.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if state := s.CachedInfo().State; state.LastSeq < from || state.Msgs == 0 {
		return nil
	}
	return scanHeads(ctx, bus, stream, from, mostHeads, func(h head) (bool, error) {
		id, err := queueIDOf(ctx, bus, stream, h)
		if err == nil && id != "" {
			err = each(id, h.seq)
		}
		return true, err
	})
}

// mostHeads is how many heads a listing asks for at a time.
const mostHeads = 512

// queueIDOf finds the QueueID of a message of MAIL in its head or, for one
// that was stored without an id, in itself. It is empty for a canary and for a
// message that cannot be read.
func queueIDOf(ctx context.Context, bus *queue.Bus, stream string, h head) (mail.QueueID, error) {
	if queue.IsCanary(h.subject) {
		return "", nil
	}
	if h.id != "" {
		return mail.QueueID(h.id), nil
	}
	whole, err := bus.Read(ctx, stream, h.seq)
	if errors.Is(err, queue.ErrContentGone) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	a, _, err := queue.DecodeMail(whole)
	if err != nil {
		return "", nil
	}
	return a.QueueID, nil
}

// ackFloor is the sequence up to which everything is acknowledged; 0 for a
// consumer that does not exist yet.
func ackFloor(ctx context.Context, bus *queue.Bus, stream, durable string) (uint64, error) {
	c, err := bus.JS.Consumer(ctx, stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask for consumer %s of %s: %w", durable, stream, err)
	}
	return c.CachedInfo().AckFloor.Stream, nil
}

// fingerprint changes whenever something moved in the streams that a balance
// rests on. Of MAIL that is only what policy has not taken: canaries come and
// go.
func (l *Ledger) fingerprint(ctx context.Context) (string, error) {
	streams := []string{queue.StreamLedger, queue.StreamHeld, queue.StreamAdmitted, queue.StreamDeliver, queue.StreamReport}
	for n := range queue.Shards {
		streams = append(streams, queue.MailStream(n))
	}
	var b strings.Builder
	for _, name := range streams {
		s, err := l.bus.JS.Stream(ctx, name)
		if err != nil {
			return "", fmt.Errorf("ask for %s: %w", name, err)
		}
		info := s.CachedInfo()
		last, messages := info.State.LastSeq, info.State.Msgs
		if strings.HasPrefix(name, "MAIL_") {
			floor, err := ackFloor(ctx, l.bus, name, policyDurable)
			if err != nil {
				return "", err
			}
			if floor >= last {
				last, messages = 0, 0
			}
		}
		fmt.Fprintf(&b, "%s %s %d %d;", name, queue.StreamIdentity(info), last, messages)
	}
	return b.String(), nil
}
