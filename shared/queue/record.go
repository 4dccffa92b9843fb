package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/event"
)

// Records of one subject share a message of LEDGER, and so one sync: while
// one message is being stored, those that come meanwhile gather for the next.
// Nobody waits for company: a record that comes alone is stored alone.

// recordBytes bounds the records that share a message, in octets; a record
// larger than that has one of its own.
const recordBytes = 256 << 10

// Record writes one line of the ledger and returns when it is on stable
// storage. key names what is recorded, so that writing it again soon is writing
// it once. Who reads LEDGER must take a record that stands there twice for one:
// records that shared a message are not compared with what was stored before.
func (b *Bus) Record(ctx context.Context, key string, r event.Record) error {
	r.Schema = event.Schema
	if r.At.IsZero() {
		r.At = time.Now().UTC()
	}
	l := &line{
		id:   string(r.QueueID) + "/" + string(r.Stage) + "/" + string(r.Outcome) + "/" + key,
		data: event.Encode(&r), done: make(chan struct{}),
	}
	subject := LedgerSubject(r.Stage, r.Outcome)
	if b.records.add(subject, l) {
		go b.records.write(subject, func(ctx context.Context, id string, data []byte) error {
			_, err := b.Publish(ctx, subject, id, data)
			return err
		})
	}
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("record %s: %w", subject, ctx.Err())
	}
}

// recorder gathers records by subject.
type recorder struct {
	mu sync.Mutex
	// gathered are the records that wait, for each subject that has a writer.
	gathered map[string][]*line
}

// line is a record that waits to be stored.
type line struct {
	id   string
	data []byte
	done chan struct{}
	err  error
}

// add lets a record wait, and reports that it needs a writer.
func (r *recorder) add(subject string, l *line) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gathered == nil {
		r.gathered = map[string][]*line{}
	}
	before, busy := r.gathered[subject]
	r.gathered[subject] = append(before, l)
	return !busy
}

// take is what the next message holds; nothing ends the writer.
func (r *recorder) take(subject string) []*line {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.gathered[subject]
	n, size := 0, 0
	for n < len(all) && n < event.MaxRecords && (n == 0 || size+len(all[n].data) < recordBytes) {
		size += len(all[n].data) + 1
		n++
	}
	if n == 0 {
		delete(r.gathered, subject)
		return nil
	}
	r.gathered[subject] = all[n:]
	return all[:n]
}

// write stores what gathers, one message after the other, until nothing waits.
func (r *recorder) write(subject string, publish func(ctx context.Context, id string, data []byte) error) {
	for lines := r.take(subject); lines != nil; lines = r.take(subject) {
		id, data := lines[0].id, lines[0].data
		if len(lines) > 1 {
			id = rand.Text()
			var all strings.Builder
			for _, l := range lines {
				all.Write(l.data)
				all.WriteByte('\n')
			}
			data = []byte(all.String())
		}
		err := publish(context.Background(), id, data)
		for _, l := range lines {
			l.err = err
			close(l.done)
		}
	}
}
