package ingress

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// ready waits until ingress is ready or, with a text, until it says that it is
// not for that.
func (r *rig) ready(why string) {
	r.t.Helper()
	var err error
	defer func() {
		if r.t.Failed() {
			r.t.Logf("it says %v", err)
		}
	}()
	timetest.Await(r.t, "not ready for "+why, func() bool {
		err = r.group.Check()
		return err == nil && why == "" || err != nil && why != "" && strings.Contains(err.Error(), why)
	})
}

// small is ingress on a store of 20 MiB.
func small(t *testing.T) *rig {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Options{Dir: t.TempDir(), Purpose: "test", MaxStore: 20 << 20, Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	return startOn(t, bus)
}

// fill stores something else until so many octets are used.
func (r *rig) fill(octets int64) jetstream.Stream {
	r.t.Helper()
	s, err := r.bus.JS.CreateOrUpdateStream(r.t.Context(), jetstream.StreamConfig{Name: "BALLAST", Subjects: []string{"ballast"}})
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		room, err := r.bus.Room(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if room.Used >= octets {
			return s
		}
		if _, err := r.bus.JS.Publish(r.t.Context(), "ballast", make([]byte, min(500<<10, octets-room.Used))); err != nil {
			r.t.Fatal(err)
		}
	}
}

// From 85 % of the store on MAIL is answered 452, and the session stays of use;
// a message that was begun is taken, and when there is room again so is the
// next. A size that is declared counts before it is sent.
func TestIntakeStops(t *testing.T) {
	r := small(t)
	r.ready("")
	c, begun := r.begin(campus, "anna@campus.test"), r.begin(campus, "anna@campus.test")
	c.say("RSET", "250")
	r.fill(16 << 20)
	r.ready("")
	timetest.Await(t, "the size is counted in", func() bool {
		asks := r.dial(campus) // each in a session of its own: many commands without mail end one
		defer asks.conn.Close()
		asks.say("EHLO prn", "250")
		got := asks.ask(fmt.Sprintf("MAIL FROM:<prn@campus.test> SIZE=%d", 2<<20))
		return strings.HasPrefix(got, "452 4.3.1 ")
	})
	c.say("MAIL FROM:<prn@campus.test> SIZE=1000", "250")
	c.say("RSET", "250")
	ballast := r.fill(18 << 20)
	r.ready("new mail is answered 452: ")
	for range 3 {
		c.say("MAIL FROM:<prn@campus.test>", "452 4.3.1 ")
		c.say("RCPT TO:<anna@campus.test>", "503 ")
		c.say("NOOP", "250 ")
	}
	begun.queued(begun.data(message))
	if err := ballast.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.ready("")
	c.envelope("anna@campus.test")
	c.queued(c.data(message))
	evidence := 0
	for _, e := range r.refusals() {
		if e.Rule == ruleFull && e.Stage == "mail" && strings.Contains(e.Reason, " MB of the store are used") {
			evidence += e.Count
		}
	}
	if evidence < 4 {
		t.Errorf("%d refusals kept as evidence", evidence)
	}
}

func TestStops(t *testing.T) {
	for _, tt := range []struct {
		before bool
		used   int64
		want   bool
	}{{false, 84, false}, {false, 85, true}, {true, 85, true}, {true, 83, true}, {true, 82, false}} {
		if got := stops(tt.before, queue.Room{Used: tt.used, Limit: 100}); got != tt.want {
			t.Errorf("at %d %%, stopped before: %v: %v", tt.used, tt.before, got)
		}
	}
}

// Ingress is ready only while every shard acknowledges; mail of its own is as
// good as a canary.
func TestReadyWhileShardsAcknowledge(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.ready("")
	s, err := r.bus.JS.Stream(t.Context(), queue.MailStream(1))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := r.bus.JS.DeleteStream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	r.ready("MAIL_1 does not acknowledge")
	if _, err := r.bus.JS.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.ready("")
}

// A client that takes its time over a content waits for nothing: however many
// there are, nobody gives way to them.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	r := start(t)
	for range 8 {
		c := r.begin(campus, "anna@campus.test")
		c.say("DATA", "354")
		c.write("Subject: half of it\r\n\r\nand then")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 { // with clients that wait only the first turn is free
		if err := r.bus.Intake.GiveWay(ctx, "signer", mail.LaneNormal, time.Now()); err != nil {
			t.Fatal("the work behind MAIL gives way to clients that are still sending")
		}
	}
}

// Of two looks at the shards the later one tells, also when the earlier one is
// slow to: else a relay that is ready would say that it is not.
func TestLooksInTurn(t *testing.T) {
	bus := queuetest.Start(t)
	var told []error
	slow, goOn := make(chan struct{}), make(chan struct{})
	i := &intake{bus: bus, pulse: bus.NewPulse(), hindered: func(_ string, why error) {
		if why != nil {
			close(slow)
			<-goOn
		}
		told = append(told, why)
	}}
	first, second := make(chan struct{}), make(chan struct{})
	go func() { defer close(first); i.look() }()
	<-slow
	for n := range queue.Shards {
		i.pulse.Heard(n)
	}
	go func() { defer close(second); i.look() }()
	select {
	case <-second:
	case <-time.After(100 * time.Millisecond): // it waits for its turn
	}
	close(goOn)
	<-first
	<-second
	if len(told) != 2 || told[0] == nil || told[1] != nil {
		t.Errorf("told %v", told)
	}
}
