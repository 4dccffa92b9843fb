package policy

import (
	"strconv"
	"testing"

	"github.com/postrider/postrider/shared/mail"
)

func TestUntouched(t *testing.T) {
	var u untouched
	for _, step := range []struct {
		id       string
		delivery uint64
		stored   bool // a decision is about to be
		want     bool
	}{
		{"A", 1, false, true}, {"A", 2, false, true}, {"B", 2, false, false}, {"A", 3, true, true}, {"A", 4, false, false}, {"A", 5, false, false},
		{"C", 1, false, true}, {"C", 3, false, false}, // another process had the second
	} {
		if got := u.begin(mail.QueueID(step.id), step.delivery); got != step.want {
			t.Errorf("%s, delivery %d: %v", step.id, step.delivery, got)
		}
		if step.stored {
			u.end(mail.QueueID(step.id))
		}
	}
	for i := range mostUntouched + 1 {
		u.begin(mail.QueueID(strconv.Itoa(i)), 1)
	}
	if len(u.last) > mostUntouched {
		t.Errorf("%d are remembered", len(u.last))
	}
}
