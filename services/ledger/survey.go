package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// surveyPage is how many messages are looked up at a time.
const surveyPage = 500

// survey finds the facts that a plan rests on: what is in no stream and has no
// end in LEDGER and, while LEDGER is rolled back, everything that LEDGER ought
// to know.
type survey struct {
	*Ledger
	li *listing
	// seq is the barrier: messages accepted after it do not count.
	seq uint64
	// whole: LEDGER is rolled back.
	whole   bool
	kept    map[mail.QueueID]struct{}
	earlier []*evidence
}

// newSurvey makes a survey. whole asks for everything that LEDGER ought to
// know.
func (l *Ledger) newSurvey(ctx context.Context, whole bool) (*survey, error) {
	s := &survey{Ledger: l, whole: whole}
	if err := s.list(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("survey what is where: %w", err)
	}
	return s, nil
}

// list lists the streams, upstream first, as a balance does.
func (s *survey) list(ctx context.Context) error {
	if err := s.agrees(ctx); err != nil {
		return err
	}
	before, err := s.ledgerInfo(ctx)
	if err != nil {
		return err
	}
	s.seq = before.State.LastSeq
	floors, err := s.policyFloors(ctx)
	if err != nil {
		return err
	}
	if s.li, err = s.index.newListing(ctx); err != nil {
		return err
	}
	if err := s.li.fill(ctx, s.bus); err != nil {
		return err
	}
	if _, err := s.caughtUp(ctx); err != nil {
		return err
	}
	if s.kept, err = s.bus.ListKept(ctx); err != nil {
		return err
	}
	if s.whole {
		if s.earlier, err = allEvidence(ctx, s.dir); err != nil {
			return err
		}
	}
	return s.listStored(ctx, floors)
}

func (s *survey) close() {
	if s.li != nil {
		s.li.close()
	}
	for _, e := range s.earlier {
		e.db.Close()
	}
}

// policyFloors is up to where policy has taken every message of each shard.
func (l *Ledger) policyFloors(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for n := range queue.Shards {
		floor, err := ackFloor(ctx, l.bus, queue.MailStream(n), policyDurable)
		if err != nil {
			return nil, err
		}
		out[queue.MailStream(n)] = floor
	}
	return out, nil
}

// listStored lists what MAIL still has: all of it while LEDGER is rolled back,
// otherwise from the first message that is lost.
func (s *survey) listStored(ctx context.Context, floors map[string]uint64) error {
	from := map[string]uint64{}
	for stream := range floors {
		from[stream] = 1
	}
	if !s.whole {
		var err error
		if from, err = s.firstLost(ctx); err != nil {
			return err
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(from)) {
		err := mailFrom(ctx, s.bus, stream, from[stream], func(id mail.QueueID, seq uint64) error {
			_, err := s.li.stored.ExecContext(ctx, string(id), stream, seq, seq <= floors[stream])
			return err
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", stream, err)
		}
	}
	return nil
}

// firstLost is where in each shard the first message lies that is lost.
func (s *survey) firstLost(ctx context.Context) (map[string]uint64, error) {
	rows, err := s.li.conn.QueryContext(ctx, "SELECT m.stream, min(m.seq)"+owed+"NOT "+inStreams+" GROUP BY 1", s.seq)
	if err != nil {
		return nil, fmt.Errorf("find what is lost: %w", damaged(err))
	}
	defer rows.Close()
	out := map[string]uint64{}
	for rows.Next() {
		var stream string
		var seq uint64
		if err := rows.Scan(&stream, &seq); err != nil {
			return nil, fmt.Errorf("find what is lost: %w", damaged(err))
		}
		if stream != "" {
			out[stream] = seq
		}
	}
	return out, rows.Err()
}

// each hands every fact to tell, in the same order each time.
func (s *survey) each(ctx context.Context, tell func(*fact) error) error {
	if err := s.eachOwed(ctx, tell); err != nil || !s.whole {
		return err
	}
	if err := s.eachUnentered(ctx, tell); err != nil {
		return err
	}
	return s.eachUnknown(ctx, tell)
}

// eachOwed tells of the messages that LEDGER calls accepted, and not settled:
// those that are lost or, while LEDGER is rolled back, all.
func (s *survey) eachOwed(ctx context.Context, tell func(*fact) error) error {
	which := "NOT " + inStreams
	if s.whole {
		which = "true"
	}
	query := "SELECT DISTINCT r.message" + owed + which + " AND r.message > ? ORDER BY r.message LIMIT ?"
	for after := place(0); ; {
		page, err := scanValues[place](s.li.conn.QueryContext(ctx, query, s.seq, after, surveyPage))
		if err != nil {
			return fmt.Errorf("find what is lost: %w", err)
		}
		for _, id := range page {
			f, err := s.owedFact(ctx, id)
			if err == nil {
				err = tell(f)
			}
			if err != nil {
				return err
			}
		}
		if len(page) < surveyPage {
			return nil
		}
		after = page[len(page)-1]
	}
}

// owedFact is what is known of a message in the index.
func (s *survey) owedFact(ctx context.Context, id place) (*fact, error) {
	f := &fact{entered: true}
	if err := scanMessage(s.li.conn.QueryRowContext(ctx, "SELECT "+messageColumns+" FROM messages m WHERE id = ?", id), &f.message); err != nil {
		return nil, fmt.Errorf("read message: %w", damaged(err))
	}
	rows, err := s.li.conn.QueryContext(ctx, "SELECT "+recipientColumns+` FROM recipients r WHERE message = ? AND state = 0 AND accepted = 1 ORDER BY address`, id)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", damaged(err))
	}
	list, err := scanRecipients(rows)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		f.open = append(f.open, openRecipient{recipient: *r})
	}
	return f, s.complete(ctx, f)
}

// complete adds where the content is, who is in a stream, and what earlier
// indexes know.
func (s *survey) complete(ctx context.Context, f *fact) error {
	at, err := scanRefs(s.li.conn.QueryContext(ctx, "SELECT stream, seq FROM temp.stored WHERE queue_id = ?", string(f.queueID)))
	if err != nil {
		return fmt.Errorf("look for content: %w", err)
	}
	if _, f.stored = s.kept[f.queueID]; len(at) > 0 {
		f.stored, f.content.Stream, f.content.Seq = true, at[0].Stream, at[0].Seq
	}
	present, err := scanValues[string](s.li.conn.QueryContext(ctx, "SELECT address FROM temp.listed WHERE queue_id = ?", string(f.queueID)))
	if err != nil {
		return fmt.Errorf("look in the streams: %w", err)
	}
	waiting, err := scanValues[int](s.li.conn.QueryContext(ctx, "SELECT 1 FROM temp.listed_mail WHERE queue_id = ?", string(f.queueID)))
	if err != nil {
		return fmt.Errorf("look in the streams: %w", err)
	}
	for i := range f.open {
		f.open[i].lost = len(waiting) == 0 && !slices.Contains(present, f.open[i].address)
	}
	for _, e := range s.earlier {
		ends, err := e.ends(ctx, f.queueID)
		if err != nil {
			return err
		}
		for i := range f.open {
			if r := &f.open[i]; r.known.state == queued {
				r.known = ends[r.address]
			}
		}
	}
	return nil
}

// eachUnentered tells of the messages that policy took from MAIL, and that
// LEDGER does not know.
func (s *survey) eachUnentered(ctx context.Context, tell func(*fact) error) error {
	const query = `SELECT stream, seq FROM temp.stored s WHERE taken AND (stream, seq) > (?, ?) AND NOT EXISTS (
		SELECT 1 FROM messages m WHERE m.queue_id = s.queue_id AND m.accepted_seq <> 0) ORDER BY stream, seq LIMIT ?`
	for after := (event.ContentRef{}); ; {
		page, err := scanRefs(s.li.conn.QueryContext(ctx, query, after.Stream, after.Seq, surveyPage))
		if err != nil {
			return fmt.Errorf("find what LEDGER does not know: %w", err)
		}
		for _, ref := range page {
			f, err := s.unenteredFact(ctx, ref)
			if err == nil && f != nil {
				err = tell(f)
			}
			if err != nil {
				return err
			}
		}
		if len(page) < surveyPage {
			return nil
		}
		after = page[len(page)-1]
	}
}

// unenteredFact is what is known of a message in MAIL; nil for one that cannot
// be read, or was purged meanwhile.
func (s *survey) unenteredFact(ctx context.Context, ref event.ContentRef) (*fact, error) {
	data, err := s.bus.Read(ctx, ref.Stream, ref.Seq)
	if errors.Is(err, queue.ErrContentGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a, _, err := queue.DecodeMail(data)
	if err != nil {
		return nil, nil
	}
	f := &fact{message: message{queueID: a.QueueID, acceptedAt: a.At, device: a.Device, owner: a.Owner, class: a.Class, content: ref}}
	settled, err := scanValues[string](s.li.conn.QueryContext(ctx, `SELECT r.address FROM recipients r CROSS JOIN messages m ON m.id = r.message
		WHERE m.queue_id = ? AND r.state <> 0`, string(a.QueueID)))
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	for _, rcpt := range a.Env.Recipients {
		if !slices.Contains(settled, rcpt.Address.String()) {
			f.open = append(f.open, openRecipient{recipient: recipient{address: rcpt.Address.String(), destination: rcpt.Address.Domain}})
		}
	}
	return f, s.complete(ctx, f)
}

// eachUnknown tells of the messages that only earlier indexes know, and that
// were not settled.
func (s *survey) eachUnknown(ctx context.Context, tell func(*fact) error) error {
	told := map[mail.QueueID]bool{}
	for _, e := range s.earlier {
		err := e.unsettled(ctx, func(m *message, open []*recipient) error {
			known, err := scanValues[int](s.li.conn.QueryContext(ctx, `SELECT 1 FROM messages WHERE queue_id = ? AND accepted_seq <> 0
				UNION ALL SELECT 1 FROM temp.stored WHERE queue_id = ?`, string(m.queueID), string(m.queueID)))
			if err != nil || len(known) > 0 || told[m.queueID] {
				return err
			}
			told[m.queueID] = true
			f := &fact{message: *m}
			for _, r := range open {
				f.open = append(f.open, openRecipient{recipient: *r})
			}
			if err := s.complete(ctx, f); err != nil {
				return err
			}
			return tell(f)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// evidence are the earlier indexes that were consulted.
func (s *survey) evidence() (out []books.Evidence) {
	for _, e := range s.earlier {
		out = append(out, e.Evidence)
	}
	return out
}
