package ledger

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// relay is the other services in short: each stores what follows from an
// event, and then lets go of it.
type relay struct{ bus *queue.Bus }

func (r relay) run(ctx context.Context, wait *sync.WaitGroup) {
	work := func(stream, durable, filter string, handle queue.Handler) {
		wait.Go(func() {
			r.bus.Work(ctx, queue.Source{Stream: stream, Durable: durable, Filter: filter, Concurrency: 8}, time.Second, handle)
		})
	}
	for n := range queue.Shards {
		work(queue.MailStream(n), policyDurable, "", r.policy)
	}
	for _, lane := range admittedLanes {
		work(queue.StreamAdmitted, signerDurable+string(lane), "admitted."+string(lane)+".*", r.signer)
	}
	work(queue.StreamDeliver, "delivery", "deliver.ready.*.*", r.delivery)
	work(queue.StreamReport, "bounce", "", r.bounce)
}

func (r relay) policy(ctx context.Context, m queue.Message) error {
	a, _, err := queue.DecodeMail(m.Data)
	if err != nil {
		return err
	}
	entered := accepted(string(a.QueueID))
	for _, rcpt := range a.Env.Recipients {
		entered.Recipients = append(entered.Recipients, event.RecipientRecord{Address: rcpt.Address})
	}
	if err := r.bus.Record(ctx, "", entered); err != nil {
		return err
	}
	out := event.Admitted{Schema: event.Schema, QueueID: a.QueueID, Env: a.Env}
	_, err = r.bus.Publish(ctx, queue.AdmittedSubject(mail.LaneNormal, queue.ShardOf(a.QueueID)), string(a.QueueID), event.Encode(&out))
	return err
}

func (r relay) signer(ctx context.Context, m queue.Message) error {
	a, err := event.Decode[event.Admitted](m.Data)
	if err != nil {
		return err
	}
	for n, rcpt := range a.Env.Recipients {
		j := event.Job{Schema: event.Schema, ID: fmt.Sprintf("%s-%d", a.QueueID, n), QueueID: a.QueueID, Destination: rcpt.Address.Domain, Env: mail.Envelope{Recipients: []mail.Recipient{rcpt}}}
		if _, err := r.bus.Publish(ctx, readyFor(&j), j.ID, event.Encode(&j)); err != nil {
			return err
		}
	}
	return nil
}

func readyFor(j *event.Job) string {
	return queue.ReadySubject(mail.LaneNormal, queue.PartitionOf(j.Destination))
}

// delivery does what the destination is called.
func (r relay) delivery(ctx context.Context, m queue.Message) error {
	j, err := event.Decode[event.Job](m.Data)
	if err != nil {
		return err
	}
	j.Attempt++
	key, rcpts := fmt.Sprintf("%s/%d", j.ID, j.Attempt), to(j.Env.Recipients[0].Address.String())
	switch {
	case j.Destination == "later.test" && j.Attempt < 2:
		if err := r.bus.Record(ctx, key, outcome(event.Delayed, string(j.QueueID), j.Attempt, rcpts)); err != nil {
			return err
		}
		_, err = r.bus.PublishLater(ctx, queue.LaterSubject(j.Destination, j.ID), readyFor(j), key, event.Encode(j), time.Now().Add(time.Second))
		return err
	case j.Destination == "never.test":
		if err := r.bus.Record(ctx, key, outcome(event.Failed, string(j.QueueID), j.Attempt, rcpts)); err != nil {
			return err
		}
		f := event.Failure{Schema: event.Schema, Kind: event.KindFailed, ID: key, QueueID: j.QueueID, Recipients: rcpts}
		_, err = r.bus.Publish(ctx, queue.ReportSubject(f.Kind), f.ID, event.Encode(&f))
		return err
	}
	return r.bus.Record(ctx, key, outcome(event.Delivered, string(j.QueueID), j.Attempt, rcpts))
}

func (r relay) bounce(ctx context.Context, m queue.Message) error {
	f, err := event.Decode[event.Failure](m.Data)
	if err != nil {
		return err
	}
	return r.bus.Record(ctx, f.ID, outcome(event.Bounced, string(f.QueueID), 0, f.Recipients))
}

// TestBalanceUnderTraffic: while mail flows through every stream, every single
// count balances; when it has flowed off, it is all settled.
func TestBalanceUnderTraffic(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	start(t, bus, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var services sync.WaitGroup
	relay{bus}.run(ctx, &services)
	defer services.Wait()
	defer cancel()

	const messages = 300
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		ids := mail.NewQueueIDs()
		for n := range messages {
			s.mail(string(ids.Next()), fmt.Sprintf("u%d@at-once.test", n), fmt.Sprintf("u%d@later.test", n), fmt.Sprintf("u%d@never.test", n))
		}
	}()
	for flowing := true; flowing; {
		b := balance(t, bus, time.Nanosecond) // one count
		if !b.Balances() {
			t.Fatalf("does not balance under way: %s", asJSON(t, b))
		}
		select {
		case <-sent:
			flowing = b.Total.Settled() < 3*messages
		default:
		}
	}
	b := balance(t, bus, 0)
	if b.Total.Delivered != 2*messages || b.Total.Bounced != messages || b.Total.Queued != 0 || b.Arriving != 0 {
		t.Errorf("in the end: %s", asJSON(t, b))
	}
}
