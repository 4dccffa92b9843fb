package policy

import (
	"testing"

	"github.com/postrider/postrider/shared/queue"
)

// A canary is let go of, and nothing follows from it.
func TestCanary(t *testing.T) {
	r := start(t)
	r.handle(queue.Message{Subject: "mail.canary.2", Seq: 1})
	for _, stream := range []string{queue.StreamLedger, queue.StreamAdmitted, queue.StreamReport} {
		s, err := r.bus.JS.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.CachedInfo().State.LastSeq; n != 0 {
			t.Errorf("%d messages in %s", n, stream)
		}
	}
}
