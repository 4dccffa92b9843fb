package queue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// pulse watches a bus until the test ends.
func pulse(t *testing.T, bus *queue.Bus, hush func() bool) *queue.Pulse {
	t.Helper()
	p := bus.NewPulse()
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "MAIL_3 has acknowledged nothing yet") {
		t.Errorf("at first: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx, hush)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

func never() bool { return false }

// A stream that takes a publish and does not acknowledge it is named, and only
// that one; when it acknowledges again, that is known as well.
func TestPulse(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	p := pulse(t, bus, never)
	timetest.Await(t, "every shard acknowledges", func() bool { return p.Check() == nil })
	s, err := bus.JS.Stream(t.Context(), queue.MailStream(2))
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	if err := bus.JS.DeleteStream(t.Context(), config.Name); err != nil {
		t.Fatal(err)
	}
	silence, err := bus.NC.Subscribe(config.Subjects[0], func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the silence is noticed", func() bool {
		err := p.Check()
		return err != nil && strings.HasPrefix(err.Error(), "MAIL_2 does not acknowledge, although its server answers") && !strings.Contains(err.Error(), "MAIL_1")
	})
	if err := silence.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "nobody answers", func() bool {
		err := p.Check()
		return err != nil && strings.Contains(err.Error(), "no response from stream")
	})
	if _, err := bus.JS.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "every shard acknowledges again", func() bool { return p.Check() == nil })
}

// Where mail is acknowledged no canary is needed; a store that is full is spared.
func TestPulseIsQuiet(t *testing.T) {
	t.Parallel()
	for _, hush := range []bool{false, true} {
		bus := queuetest.Start(t)
		p := bus.NewPulse()
		for n := range queue.Shards {
			if !hush {
				p.Heard(n)
			}
		}
		if err := p.Check(); (err == nil) == hush {
			t.Errorf("hush %v: %v", hush, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		looks := 0
		p.Run(ctx, func() bool {
			if looks++; looks == 3*queue.Shards {
				cancel()
			}
			return hush
		})
		for n := range queue.Shards {
			s, err := bus.JS.Stream(t.Context(), queue.MailStream(n))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.CachedInfo().State.Msgs; got != 0 {
				t.Errorf("hush %v: %d canaries in shard %d", hush, got, n)
			}
		}
	}
}

func TestPulseOfLostBus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := queuetest.Server(t, dir)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	p := pulse(t, bus, never)
	timetest.Await(t, "every shard acknowledges", func() bool { return p.Check() == nil })
	server.Stop()
	timetest.Await(t, "the loss is noticed", func() bool {
		err := p.Check()
		return err != nil && err.Error() == "the bus is not connected"
	})
}

func TestIsCanary(t *testing.T) {
	if !queue.IsCanary("mail.canary.3") || queue.IsCanary(queue.MailSubject(mail.LaneNormal, 3)) || queue.IsCanary("admitted.canary.3") {
		t.Error("wrong answer")
	}
}
