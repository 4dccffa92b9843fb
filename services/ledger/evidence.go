package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// When LEDGER is rolled back, the index knows what LEDGER has forgotten: whom
// mail was delivered to since. Such an index is set aside as evidence, and
// recovery consults it.

// evidenceMost is how many earlier indexes are consulted, the newest.
const evidenceMost = 8

// accuse lets everybody know that LEDGER is not what the index was made from,
// and returns why; or its own error when nobody could be told.
func (l *Ledger) accuse(ctx context.Context, why error) error {
	at, err := l.index.checkpoint(ctx)
	if err == nil {
		err = l.bus.Accuse(ctx, at.mark())
	}
	if err != nil {
		return err
	}
	return why
}

// setAside renames the file of the index, which is closed, to say how far it
// knows LEDGER. One that knows nothing is removed.
func setAside(dir string) error {
	from := filepath.Join(dir, "ledger.db")
	e, err := openEvidence(context.Background(), from)
	if err != nil {
		return err
	}
	e.db.Close()
	if e.Problem == "" && e.Seq == 0 {
		return removeIndex(dir)
	}
	to := filepath.Join(dir, fmt.Sprintf("ledger-%d.db", e.Seq))
	for n := 2; ; n++ {
		if _, err := os.Stat(to); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = filepath.Join(dir, fmt.Sprintf("ledger-%d-%d.db", e.Seq, n))
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("set index aside: %w", err)
	}
	return removeIndex(dir)
}

// evidence is an index that was set aside.
type evidence struct {
	books.Evidence
	db *sql.DB
}

// openEvidence opens a file that nobody writes any more. One that cannot be
// read says so in its Problem.
func openEvidence(ctx context.Context, file string) (*evidence, error) {
	q := url.Values{"mode": {"ro"}, "immutable": {"1"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open earlier index: %w", err)
	}
	e := &evidence{Evidence: books.Evidence{File: file}, db: db}
	var version int
	var at int64
	err = db.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version)
	if err == nil && version != schemaVersion {
		err = fmt.Errorf("it is of version %d, this release reads %d", version, schemaVersion)
	}
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT seq, at FROM checkpoint").Scan(&e.Seq, &at)
	}
	if err != nil {
		e.Problem = err.Error()
	}
	e.Until = instant(at)
	return e, nil
}

// allEvidence opens every index that was set aside, the newest first.
func allEvidence(ctx context.Context, dir string) (out []*evidence, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "ledger-*.db"))
	if err != nil {
		return nil, fmt.Errorf("look for earlier indexes: %w", err)
	}
	for _, file := range files {
		e, err := openEvidence(ctx, file)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *evidence) int { return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(a.File, b.File)) })
	for len(out) > evidenceMost {
		out[len(out)-1].db.Close()
		out = out[:len(out)-1]
	}
	return out, nil
}

// ends are the recipients of a message whose end it knows, by address.
func (e *evidence) ends(ctx context.Context, id mail.QueueID) (map[string]recipient, error) {
	if e.Problem != "" {
		return nil, nil
	}
	rows, err := e.db.QueryContext(ctx, "SELECT "+recipientColumns+` FROM recipients r
		WHERE r.message = (SELECT id FROM messages WHERE queue_id = ?) AND r.state <> 0`, string(id))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.File, err)
	}
	list, err := scanRecipients(rows)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.File, err)
	}
	out := map[string]recipient{}
	for _, r := range list {
		out[r.address] = *r
	}
	return out, nil
}

// unsettled hands every message to each that the index knew to be accepted and
// not settled.
func (e *evidence) unsettled(ctx context.Context, each func(*message, []*recipient) error) error {
	if e.Problem != "" {
		return nil
	}
	after := place(0)
	for {
		var m message
		row := e.db.QueryRowContext(ctx, "SELECT "+messageColumns+` FROM messages m WHERE m.id =
			(SELECT min(message) FROM recipients WHERE state = 0 AND accepted = 1 AND message > ?)`, after)
		if err := scanMessage(row, &m); errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read %s: %w", e.File, err)
		}
		rows, err := e.db.QueryContext(ctx, "SELECT "+recipientColumns+" FROM recipients r WHERE message = ? AND state = 0 AND accepted = 1", m.first)
		if err != nil {
			return fmt.Errorf("read %s: %w", e.File, err)
		}
		list, err := scanRecipients(rows)
		if err != nil {
			return fmt.Errorf("read %s: %w", e.File, err)
		}
		if err := each(&m, list); err != nil {
			return err
		}
		after = m.first
	}
}

// agrees reports that the index is of LEDGER as it is, and not of what it was.
func (l *Ledger) agrees(ctx context.Context) error {
	var c checkpoint
	row := l.index.reader.QueryRowContext(ctx, "SELECT stream, seq, at FROM checkpoint")
	if err := row.Scan(&c.stream, &c.seq, &c.at); err != nil {
		return fmt.Errorf("read checkpoint: %w", damaged(err))
	}
	err := l.bus.Agrees(ctx, c.mark())
	if errors.Is(err, queue.ErrRolledBack) {
		return fmt.Errorf("%w: it is being made again from LEDGER", books.ErrBehind)
	}
	return err
}
