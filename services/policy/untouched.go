package policy

import (
	"sync"

	"github.com/postrider/postrider/shared/mail"
)

// untouched are messages that were handed out before, each time to this process,
// and put off each time before a decision could be stored. Of any other that
// comes again, an earlier run may have stored one.
type untouched struct {
	mu   sync.Mutex
	last map[mail.QueueID]uint64 // the delivery that was put off
}

// mostUntouched bounds what is remembered; what is forgotten is looked for.
const mostUntouched = 20_000

// begin reports that no run stored a decision before this delivery of a message.
func (u *untouched) begin(id mail.QueueID, delivery uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if delivery > 1 && u.last[id] != delivery-1 {
		return false
	}
	if u.last == nil || len(u.last) >= mostUntouched {
		u.last = map[mail.QueueID]uint64{}
	}
	u.last[id] = delivery
	return true
}

// end is for when a decision is about to be stored.
func (u *untouched) end(id mail.QueueID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.last, id)
}
