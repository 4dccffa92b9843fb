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
		size := func() (contents, octets int) {
			synctest.Wait() // for what forgets
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.contents), r.octets
		}
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
		time.Sleep(recentFor / 2)
		r.put("C", at(3), []byte("12345"))
		time.Sleep(recentFor/2 + time.Second)
		if n, octets := size(); n != 1 || octets != 5 || r.get("B", at(2)) != nil || r.get("C", at(3)) == nil {
			t.Errorf("%d contents of %d octets", n, octets)
		}
		time.Sleep(recentFor)
		if n, octets := size(); n != 0 || octets != 0 {
			t.Errorf("%d contents of %d octets in an idle process", n, octets)
		}
		r.put("D", at(4), []byte("1234567890"))
		if r.get("D", at(4)) == nil {
			t.Error("nothing is kept any more")
		}
		var none *Recent
		none.put("A", at(1), data)
		if none.get("A", at(1)) != nil {
			t.Error("nobody keeps it")
		}
	})
}
