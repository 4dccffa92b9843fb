// Package purge plays the scenarios in which content outlives its time in MAIL,
// through the whole relay, with a retention of a second.
package purge

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

// Mail for a destination that is down for longer than the retention is moved
// to KEEP, and is delivered or reported from there when the destination is up;
// then nothing is left of its content, and its trace remains.
func TestDeferredBeyondTheRetention(t *testing.T) {
	at := porttest.Address(t)
	w := world.New(t, world.InProcess, func(c *config.Config) {
		c.Retention.SettledContent = config.Duration(time.Second)
		c.Delivery.Routes = []config.Route{{Domain: "down.test", To: "smtp://" + at}}
	})
	body := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 3<<20/72)
	sent := map[string]string{
		"small@down.test":     world.Message("small"),
		"large@down.test":     world.Message("large") + body,
		"550-5.1.1@down.test": world.Message("nobody") + body,
	}
	ids := map[string]mail.QueueID{}
	for to, content := range sent {
		ids[to] = w.Submit(world.Submission{From: world.Printer, To: []string{to}, Content: content})
	}
	timetest.Await(t, "KEEP has what is queued, and MAIL and BODY nothing", func() bool {
		return len(kept(t, w.Bus)) == len(sent) && stored(t, w.Bus) == 0
	})
	content := map[string][]byte{}
	for to, id := range ids {
		if content[to] = read(t, w.Bus, id); !bytes.HasSuffix(content[to], []byte(sent[to])) {
			t.Errorf("%s: %d octets are kept of %d and a trace field", to, len(content[to]), len(sent[to]))
		}
	}
	w.Balances()

	mx := smtptest.Start(t, smtptest.Options{Addrs: []string{at}, Hostname: "mx.down.test"})
	for to, want := range map[string]event.Outcome{
		"small@down.test": event.Delivered, "large@down.test": event.Delivered, "550-5.1.1@down.test": event.Bounced,
	} {
		if got := w.Settled(ids[to]).Recipients[0].State; got != string(want) {
			t.Errorf("%s is %s", to, got)
		}
	}
	for _, d := range mx.Deliveries() {
		to := d.Field("Subject") + "@down.test"
		if !bytes.HasSuffix(d.Content, content[to]) || len(content[to]) == 0 {
			t.Errorf("%s got %d octets that do not end with the %d kept", to, len(d.Content), len(content[to]))
		}
	}
	if n := len(mx.Deliveries()); n != 2 {
		t.Errorf("%d deliveries", n)
	}
	report := waitFor(t, w.Campus, "Undelivered mail: 550-5.1.1@down.test")
	if !strings.Contains(string(report.Content), "\r\nSubject: nobody\r\n") {
		t.Errorf("the report lacks the header:\n%s", report.Content)
	}
	timetest.Await(t, "nothing is left", func() bool {
		return len(kept(t, w.Bus)) == 0 && stored(t, w.Bus) == 0
	})
	for to, id := range ids {
		trace := w.Settled(id)
		if trace.Recipients[0].Recipient != to || len(trace.Records) < 3 {
			t.Errorf("trace of %s: %+v", to, trace)
		}
		if _, _, err := w.Bus.Content(t.Context(), id, event.ContentRef{Stream: queue.MailStream(queue.ShardOf(id)), Seq: 1}); !errors.Is(err, queue.ErrContentGone) {
			t.Errorf("the content of %s: %v", to, err)
		}
	}
	w.Balances()
}

func kept(t *testing.T, bus *queue.Bus) map[mail.QueueID]struct{} {
	t.Helper()
	ids, err := bus.ListKept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// stored counts the messages and chunks in MAIL and BODY; canaries are none.
func stored(t *testing.T, bus *queue.Bus) (n uint64) {
	t.Helper()
	for shard := range queue.Shards {
		for _, name := range []string{queue.MailStream(shard), queue.BodyStream(shard)} {
			s, err := bus.JS.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(">"))
			if err != nil {
				t.Fatal(err)
			}
			for subject, messages := range info.State.Subjects {
				if !queue.IsCanary(subject) {
					n += messages
				}
			}
		}
	}
	return n
}

// read reads a content that is only in KEEP.
func read(t *testing.T, bus *queue.Bus, id mail.QueueID) []byte {
	t.Helper()
	_, content, err := bus.Content(t.Context(), id, event.ContentRef{Stream: queue.MailStream(queue.ShardOf(id)), Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// waitFor waits for the message with that subject.
func waitFor(t *testing.T, mx *smtptest.MX, subject string) (found smtptest.Delivery) {
	t.Helper()
	err := mx.WaitFor(t.Context(), func(smtptest.Counts) bool {
		for _, d := range mx.Deliveries() {
			if d.Field("Subject") == subject {
				found = d
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("no message %q: %v", subject, err)
	}
	return found
}
