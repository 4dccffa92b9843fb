package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// hold moves a job to HELD that people want held, instead of an attempt: first
// the record, then what is held, and then the job is acknowledged. Where that was
// cut short it is done again, unless the job lies in HELD by then, or lay there
// until somebody decided: then only the acknowledgement was missing.
func (w *worker) hold(ctx context.Context, m queue.Message, job *event.Job, rcpts []mail.Recipient, doubt bool, why *event.Holding) error {
	h := heldFor(why, job, rcpts, doubt, time.Now().UTC())
	was, err := w.bus.WasHeld(ctx, job.QueueID, h.Part())
	if err == nil && !was {
		err = w.keep(ctx, h, why)
	}
	if err != nil {
		return fmt.Errorf("hold %s: %w", job.ID, err)
	}
	w.memory.turn(job, m)
	w.metrics.held.Inc()
	w.log.Info().Str("queue_id", string(job.QueueID)).Str("destination", job.Destination).Str("rule", h.Rule).Str("reason", h.Reason).Msg("job is held")
	return nil
}

func (w *worker) keep(ctx context.Context, h *event.Held, why *event.Holding) error {
	r := event.Record{
		At: h.At, Stage: event.StageDelivery, Outcome: event.Kept, QueueID: h.Job.QueueID, Job: h.Job.ID, Attempt: h.Job.Attempt, Drive: h.Job.Drive,
		Actor: why.By, Reason: h.Rule + ": " + h.Reason,
	}
	for _, rcpt := range h.Job.Env.Recipients {
		r.Recipients = append(r.Recipients, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original})
	}
	if err := w.bus.Record(ctx, h.Part(), r); err != nil {
		return err
	}
	return w.bus.Hold(ctx, h)
}

// heldFor is the job as it is held, for those who have no end yet. It is held
// after it was released before, whatever the clocks say: the books go by that.
func heldFor(why *event.Holding, job *event.Job, rcpts []mail.Recipient, doubt bool, at time.Time) *event.Held {
	j := *job
	j.Hold, j.Env.Recipients = nil, rcpts
	if doubt {
		j.Doubt = event.ForwardPaths(rcpts)
	}
	for _, before := range []time.Time{why.At, job.Released} {
		if !at.After(before) {
			at = before.Add(time.Nanosecond)
		}
	}
	return event.HeldJob(&j, why.Rule, why.Why(), at)
}
