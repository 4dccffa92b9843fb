package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/postrider/postrider/shared/queue"
)

// schemaVersion is that of the index file. A file of another version is made
// again from LEDGER.
const schemaVersion = 6

// Times are nanoseconds since 1970, 0 for none. A message's id is the place of
// its first record, so that ids rise in the order of LEDGER and every instance
// gives the same.
const schema = `
CREATE TABLE checkpoint (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	stream     TEXT    NOT NULL, -- identity of LEDGER
	seq        INTEGER NOT NULL, -- last record folded
	at         INTEGER NOT NULL, -- when LEDGER stored it
	horizon    INTEGER NOT NULL, -- time before which LEDGER had been trimmed
	unreadable INTEGER NOT NULL
);
CREATE TABLE messages (
	id            INTEGER PRIMARY KEY,
	queue_id      TEXT    NOT NULL UNIQUE,
	accepted_seq  INTEGER NOT NULL, -- 0: no accepted record yet
	accepted_at   INTEGER NOT NULL,
	message_id    TEXT    NOT NULL,
	submission_id TEXT    NOT NULL,
	sender        TEXT    NOT NULL,
	device        TEXT    NOT NULL,
	owner         TEXT    NOT NULL,
	client        TEXT    NOT NULL, -- address that it came from
	by_login      INTEGER NOT NULL, -- its sender had authenticated
	class         TEXT    NOT NULL,
	size          INTEGER NOT NULL,
	late_accept   INTEGER NOT NULL,
	report_of     TEXT    NOT NULL,
	stream        TEXT    NOT NULL,
	seq           INTEGER NOT NULL,
	drive         INTEGER NOT NULL,
	phi           INTEGER NOT NULL
);
CREATE INDEX messages_message_id ON messages (message_id) WHERE message_id <> '';
CREATE INDEX messages_submission ON messages (submission_id) WHERE submission_id <> '';
CREATE INDEX messages_sender     ON messages (sender COLLATE NOCASE) WHERE sender <> '';
CREATE INDEX messages_device     ON messages (device) WHERE device <> '';
CREATE INDEX messages_client     ON messages (client) WHERE client <> '';
CREATE INDEX messages_accepted   ON messages (accepted_seq);
CREATE INDEX messages_phi        ON messages (stream, seq) WHERE phi = 1;
CREATE TABLE recipients (
	message            INTEGER NOT NULL,
	address            TEXT    NOT NULL,
	destination        TEXT    NOT NULL,
	accepted           INTEGER NOT NULL,
	state              INTEGER NOT NULL,
	settled_at         INTEGER NOT NULL,
	settled_key        INTEGER NOT NULL,
	attempts           INTEGER NOT NULL,
	failed             INTEGER NOT NULL, -- place of the record, 0 for none
	kept               INTEGER NOT NULL, -- when it was last held, and released
	released           INTEGER NOT NULL,
	possible_duplicate INTEGER NOT NULL,
	conflict           INTEGER NOT NULL,
	last_rank          INTEGER NOT NULL,
	remote_mta         TEXT    NOT NULL,
	status             TEXT    NOT NULL,
	diagnostic         TEXT    NOT NULL,
	decided_rank       INTEGER NOT NULL,
	actor              TEXT    NOT NULL,
	reason             TEXT    NOT NULL,
	PRIMARY KEY (message, address)
) WITHOUT ROWID;
CREATE INDEX recipients_address    ON recipients (address COLLATE NOCASE);
CREATE INDEX recipients_queued     ON recipients (message) WHERE state = 0;
CREATE INDEX recipients_unaccepted ON recipients (message) WHERE accepted = 0;
CREATE TABLE records (
	message INTEGER NOT NULL,
	place   INTEGER NOT NULL,
	PRIMARY KEY (message, place)
) WITHOUT ROWID;
-- The running balance. What is a state, or one of the sums in tally.go.
CREATE TABLE tally (
	owner       TEXT    NOT NULL,
	destination TEXT    NOT NULL,
	what        INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	PRIMARY KEY (owner, destination, what)
) WITHOUT ROWID;
`

// errInUse reports a data directory where another ledger keeps its index.
var errInUse = errors.New("ledger.db is in use by another ledger process: give each instance a relay.data of its own")

// errDamaged reports an index file that SQLite cannot make sense of.
var errDamaged = errors.New("ledger.db is damaged")

// index is the file: one connection that writes, and a pool that reads.
type index struct {
	file   string
	writer *sql.DB
	conn   *sql.Conn // the writer's only connection
	reader *sql.DB
	save   *statements
}

// lockIndex makes this process the only one with an index in dir, until the
// returned file is closed.
func lockIndex(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "ledger.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock index: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock index in %s: %w", dir, errInUse)
	}
	return f, nil
}

// openIndex opens the index in dir. A file that is damaged or of another
// schema version is replaced by an empty one: all of it is in LEDGER.
func openIndex(ctx context.Context, dir string) (x *index, fresh bool, err error) {
	file := filepath.Join(dir, "ledger.db")
	x, fresh, err = openFile(ctx, file)
	if err == nil || !errors.Is(err, errDamaged) {
		return x, fresh, err
	}
	if err := removeIndex(dir); err != nil {
		return nil, false, err
	}
	return openFile(ctx, file)
}

// removeIndex deletes the file with its companions.
func removeIndex(dir string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, "ledger.db"+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove index: %w", err)
		}
	}
	return nil
}

// dsn names the file to the driver. Readers sort in files, not in memory: a
// balance may list more than fits.
func dsn(file string, write bool) string {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "temp_store(1)", "cache_size(-16000)"}}
	if write {
		q.Add("_pragma", "journal_mode(WAL)")
		// What a power failure takes from the index is read again from LEDGER.
		q.Add("_pragma", "synchronous(NORMAL)")
		q.Add("_pragma", "journal_size_limit(67108864)")
	} else {
		q.Set("mode", "ro")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func openFile(ctx context.Context, file string) (_ *index, fresh bool, err error) {
	x := &index{file: file}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if x.writer, err = sql.Open("sqlite", dsn(file, true)); err != nil {
		return nil, false, fmt.Errorf("open index: %w", err)
	}
	x.writer.SetMaxOpenConns(1)
	if x.conn, err = x.writer.Conn(ctx); err != nil {
		return nil, false, fmt.Errorf("open index: %w", damaged(err))
	}
	version, tables := 0, 0
	row := x.conn.QueryRowContext(ctx, "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)")
	if err = row.Scan(&version, &tables); err != nil {
		return nil, false, fmt.Errorf("open index: %w", damaged(err))
	}
	switch {
	case tables == 0:
		if err = x.create(ctx); err != nil {
			return nil, false, err
		}
		fresh = true
	case version != schemaVersion:
		return nil, false, fmt.Errorf("open index of version %d: %w", version, errDamaged)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		return nil, false, fmt.Errorf("open index: %w", err)
	}
	if x.save, err = prepare(ctx, x.conn); err != nil {
		return nil, false, fmt.Errorf("open index: %w", damaged(err))
	}
	if x.reader, err = sql.Open("sqlite", dsn(file, false)); err != nil {
		return nil, false, fmt.Errorf("open index: %w", err)
	}
	x.reader.SetMaxOpenConns(8)
	return x, fresh, nil
}

// create makes the tables in one step: a file has all of them or none.
func (x *index) create(ctx context.Context) error {
	return x.within(ctx, func() error {
		if _, err := x.conn.ExecContext(ctx, schema+useSchema+observedSchema+hoursSchema+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
			return fmt.Errorf("make index: %w", err)
		}
		_, err := x.conn.ExecContext(ctx, "INSERT INTO checkpoint VALUES (1, '', 0, 0, 0, 0)")
		return err
	})
}

// within runs steps in one transaction of the writer. A stop does not cut it
// short: it lasts for milliseconds.
func (x *index) within(ctx context.Context, steps func() error) error {
	ctx = context.WithoutCancel(ctx)
	if _, err := x.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("write index: %w", damaged(err))
	}
	err := steps()
	if err == nil {
		_, err = x.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		x.conn.ExecContext(ctx, "ROLLBACK")
		return fmt.Errorf("write index: %w", damaged(err))
	}
	return nil
}

// close lets go of the file.
func (x *index) close() {
	if x.reader != nil {
		x.reader.Close()
	}
	if x.save != nil {
		x.save.close()
	}
	if x.conn != nil {
		x.conn.Close()
	}
	if x.writer != nil {
		x.writer.Close()
	}
}

// damaged marks the errors with which SQLite reports a broken file.
func damaged(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return err
}

// checkpoint is how far the index is.
type checkpoint struct {
	stream     string // identity of LEDGER: when it was made
	seq        uint64
	at         int64 // when LEDGER stored the record at seq; 0 before the first
	horizon    int64
	unreadable int
}

// mark is the checkpoint as a mark of LEDGER.
func (c checkpoint) mark() queue.Mark {
	return queue.Mark{Stream: c.stream, Seq: c.seq, Time: instant(c.at)}
}

func (x *index) checkpoint(ctx context.Context) (c checkpoint, err error) {
	row := x.conn.QueryRowContext(ctx, "SELECT stream, seq, at, horizon, unreadable FROM checkpoint")
	if err := row.Scan(&c.stream, &c.seq, &c.at, &c.horizon, &c.unreadable); err != nil {
		return c, fmt.Errorf("read checkpoint: %w", damaged(err))
	}
	return c, nil
}
