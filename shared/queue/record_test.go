package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Records written at the same time share messages of LEDGER, and none is lost.
func TestRecordsShareMessages(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	const n = 400
	var all errgroup.Group
	for i := range n {
		all.Go(func() error {
			return bus.Record(t.Context(), "", event.Record{Stage: event.StageSigner, Outcome: event.Signed, QueueID: mail.QueueID(fmt.Sprintf("Q%03d", i))})
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	seen, messages := map[mail.QueueID]int{}, 0
	err := bus.List(t.Context(), queue.StreamLedger, "", 0, func(m *jetstream.RawStreamMsg) error {
		messages++
		records, err := event.DecodeRecords(m.Data)
		for _, r := range records {
			seen[r.QueueID]++
		}
		return err
	})
	if err != nil || len(seen) != n {
		t.Errorf("%d of %d messages have a record: %v", len(seen), n, err)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s stands there %d times", id, times)
		}
	}
	if messages > n/2 {
		t.Errorf("%d records took %d messages of LEDGER", n, messages)
	}
}

// A record that is written alone and again is stored once.
func TestRecordTwice(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := event.Record{At: time.Now(), Stage: event.StagePolicy, Outcome: event.Entered, QueueID: "Q"}
	for range 2 {
		if err := bus.Record(t.Context(), "", r); err != nil {
			t.Fatal(err)
		}
	}
	s, err := bus.JS.Stream(t.Context(), queue.StreamLedger)
	if err != nil || s.CachedInfo().State.Msgs != 1 {
		t.Errorf("%d messages, %v", s.CachedInfo().State.Msgs, err)
	}
}

// A record of a caller who gave up is an error to him.
func TestRecordGivesUp(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Record(ctx, "", event.Record{Stage: event.StagePolicy, Outcome: event.Entered, QueueID: "Q"}); err == nil {
		t.Error("no error")
	}
}
