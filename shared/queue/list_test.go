package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

const destination = "example.org"

func publishJob(t *testing.T, bus *queue.Bus, id string, later time.Duration) {
	t.Helper()
	job := event.Job{Schema: event.Schema, ID: id, QueueID: mail.QueueID(id), Destination: destination}
	ready := queue.ReadySubject(mail.LaneNormal, queue.PartitionOf(destination))
	var err error
	if later == 0 {
		_, err = bus.Publish(t.Context(), ready, id, event.Encode(&job))
	} else {
		_, err = bus.PublishLater(t.Context(), queue.LaterSubject(destination, id), ready, id, event.Encode(&job), time.Now().Add(later))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func jobs(t *testing.T, bus *queue.Bus) map[string]queue.JobEntry {
	t.Helper()
	out := map[string]queue.JobEntry{}
	err := bus.ListJobs(t.Context(), func(e queue.JobEntry) error {
		if e.Err != nil {
			return e.Err
		}
		if _, twice := out[e.Job.ID]; twice {
			return fmt.Errorf("%s is listed twice", e.Job.ID)
		}
		out[e.Job.ID] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestListJobs(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	if got := jobs(t, bus); len(got) != 0 {
		t.Fatalf("empty queue lists %v", got)
	}
	const ready, deferred = 1100, 20 // more than two batches
	for n := range ready {
		if _, err := bus.JS.PublishAsync(queue.ReadySubject(mail.LaneNormal, 3), event.Encode(&event.Job{Schema: event.Schema, ID: fmt.Sprint("r", n)})); err != nil {
			t.Fatal(err)
		}
	}
	<-bus.JS.PublishAsyncComplete()
	for n := range deferred {
		publishJob(t, bus, fmt.Sprint("d", n), time.Hour)
	}
	got := jobs(t, bus)
	if len(got) != ready+deferred {
		t.Fatalf("%d jobs listed, want %d", len(got), ready+deferred)
	}
	if e := got["r7"]; e.Deferred() || !e.Next.IsZero() {
		t.Errorf("ready job is listed as %+v", e)
	}
	e := got["d7"]
	if wait := time.Until(e.Next); !e.Deferred() || wait < 50*time.Minute || wait > time.Hour+time.Second {
		t.Errorf("deferred job is listed as %+v", e)
	}
	count := 0
	err := bus.ListJobsOf(t.Context(), queue.LaterSubject(destination, "*"), func(queue.JobEntry) error { count++; return nil })
	if err != nil || count != deferred {
		t.Errorf("%d jobs of the destination, %v; want %d", count, err, deferred)
	}
}

func TestListStopsAtError(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	publishJob(t, bus, "A", 0)
	publishJob(t, bus, "B", 0)
	enough, seen := errors.New("enough"), 0
	err := bus.ListJobs(t.Context(), func(queue.JobEntry) error { seen++; return enough })
	if !errors.Is(err, enough) || seen != 1 {
		t.Errorf("listing went on to %d jobs and returned %v", seen, err)
	}
}

func TestListUnreadableJob(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	if _, err := bus.Publish(t.Context(), queue.ReadySubject(mail.LaneNormal, 0), "x", []byte("no job")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := bus.ListJobs(t.Context(), func(e queue.JobEntry) error {
		seen++
		if e.Job != nil || e.Err == nil {
			t.Errorf("unreadable job is listed as %+v", e)
		}
		return nil
	})
	if err != nil || seen != 1 {
		t.Errorf("%d jobs, %v", seen, err)
	}
}

func TestExpedite(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	publishJob(t, bus, "A", time.Hour)
	publishJob(t, bus, "B", time.Hour)
	before := jobs(t, bus)["A"]
	if err := bus.Expedite(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	after := jobs(t, bus)
	if e := after["A"]; e.Deferred() || e.Subject != before.Target || e.Job.Destination != destination {
		t.Errorf("expedited job is at %+v", e)
	}
	if e := after["B"]; !e.Deferred() {
		t.Errorf("the other job moved as well: %+v", e)
	}
	// A worker gets it like any other.
	c, err := bus.JS.CreateConsumer(t.Context(), queue.StreamDeliver, jetstream.ConsumerConfig{FilterSubject: before.Target, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if j, err := event.Decode[event.Job](m.Data()); err != nil || j.ID != "A" {
		t.Errorf("worker got %+v, %v", j, err)
	}
}

func TestExpediteMoved(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	publishJob(t, bus, "A", time.Hour)
	listed := jobs(t, bus)["A"]
	// The schedule is replaced, as by a worker that deferred it once more.
	if _, err := bus.PublishLater(t.Context(), listed.Subject, listed.Target, "again", event.Encode(listed.Job), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := bus.Expedite(t.Context(), listed); !errors.Is(err, queue.ErrMoved) {
		t.Errorf("expedite of what has moved: %v", err)
	}
	if e := jobs(t, bus)["A"]; !e.Deferred() {
		t.Errorf("it was made ready: %+v", e)
	}
	// Nor does it come back once it is gone.
	now := jobs(t, bus)["A"]
	stream, err := bus.JS.Stream(t.Context(), queue.StreamDeliver)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bus.Expedite(t.Context(), now); !errors.Is(err, queue.ErrMoved) {
		t.Errorf("expedite of what is gone: %v", err)
	}
	if got := jobs(t, bus); len(got) != 0 {
		t.Errorf("gone job is back: %v", got)
	}
}
