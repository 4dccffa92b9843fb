package queue

import (
	"sync"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// Recent keeps inline contents that this process has just stored, for the signer
// and delivery in the same process: they need not ask the store for what was in
// hand a moment ago. What has no room, or was read by both, is read from the
// store; what the signer had to read there is kept for delivery. Mail is taken
// from a queue in the order in which it came to it, so the first are kept and
// not the last.
type Recent struct {
	limit int

	mu       sync.Mutex
	octets   int
	contents map[recentKey]*recentContent
	order    []recentKey // oldest first, also of those that were taken since
}

type recentKey struct {
	id     mail.QueueID
	stream string
	seq    uint64
}

type recentContent struct {
	data []byte
	left int // readers to come
	at   time.Time
}

// recentFor is how long a content is kept at most, and recentReaders how often
// one is read: to be signed, and to be sent to the first destination.
const (
	recentFor     = time.Minute
	recentReaders = 2
)

// NewRecent keeps up to so many octets.
func NewRecent(limit int) *Recent {
	return &Recent{limit: limit, contents: map[recentKey]*recentContent{}}
}

// put keeps a copy of a content that was just stored at ref, where there is room
// for it.
func (r *Recent) put(id mail.QueueID, ref event.ContentRef, data []byte) {
	if r.takes(len(data)) {
		r.keep(id, ref, append(make([]byte, 0, len(data)), data...), recentReaders)
	}
}

// takes reports room for so many octets.
func (r *Recent) takes(octets int) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.octets+octets <= r.limit
}

// keep keeps a content that is stored at ref, where there is room for it, for
// so many readers and recentFor at most. Nobody may write to data any more.
func (r *Recent) keep(id mail.QueueID, ref event.ContentRef, data []byte, readers int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.octets+len(data) > r.limit {
		return
	}
	if len(r.order) == 0 {
		time.AfterFunc(recentFor, r.forget)
	}
	key := recentKey{id, ref.Stream, ref.Seq}
	r.drop(key)
	r.contents[key] = &recentContent{data, readers, time.Now()}
	r.order = append(r.order, key)
	r.octets += len(data)
}

// get is a content that is kept, or nil.
func (r *Recent) get(id mail.QueueID, ref event.ContentRef) []byte {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := recentKey{id, ref.Stream, ref.Seq}
	c := r.contents[key]
	if c == nil {
		return nil
	}
	if c.left--; c.left == 0 {
		r.drop(key)
	}
	return c.data
}

// forget drops what is too old, and comes again for the next: an idle process
// keeps nobody's mail.
func (r *Recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.order) > 0 {
		key := r.order[0]
		if c := r.contents[key]; c != nil && now.Sub(c.at) < recentFor {
			time.AfterFunc(recentFor-now.Sub(c.at), r.forget)
			return
		}
		r.drop(key)
		r.order = r.order[1:]
	}
	r.order = nil
}

func (r *Recent) drop(key recentKey) {
	if c := r.contents[key]; c != nil {
		r.octets -= len(c.data)
		delete(r.contents, key)
	}
}
