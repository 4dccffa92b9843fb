package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/event"
)

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecent(10)
		at := func(seq uint64) event.ContentRef { return event.ContentRef{Stream: "MAIL_0", Seq: seq} }
		data := []byte("12345")
		r.put("A", at(1), data)
		data[0] = 'x' // the buffer is used again
		r.put("B", at(2), data)
		r.put("C", at(3), []byte("no room"))
		if r.get("C", at(3)) != nil || r.get("B", at(1)) != nil || r.get("A", at(2)) != nil {
			t.Error("what is not there is there")
		}
		for range recentReaders {
			if got := string(r.get("A", at(1))); got != "12345" {
				t.Errorf("%q", got)
			}
		}
		if r.get("A", at(1)) != nil {
			t.Error("it is kept for more readers than there are")
		}
		r.put("C", at(3), []byte("12345"))
		time.Sleep(recentFor)
		r.put("D", at(4), []byte("1234567890"))
		if r.get("B", at(2)) != nil || r.get("C", at(3)) != nil || r.get("D", at(4)) == nil || len(r.order) != 1 || r.octets != 10 {
			t.Errorf("%d octets, %v", r.octets, r.order)
		}
		var none *Recent
		none.put("A", at(1), data)
		if none.get("A", at(1)) != nil {
			t.Error("nobody keeps it")
		}
	})
}
