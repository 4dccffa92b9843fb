package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// ledgerWait is how long a job waits for LEDGER to be read before it is handed
// back.
const ledgerWait = 15 * time.Second

// subtraction takes from a job whom this process, or LEDGER, knows to be
// settled: a worker that was killed may have stored its record and not its
// acknowledgement.
type subtraction struct {
	memory  *memory
	settled *queue.Settled
}

// Outstanding are the recipients without a known end. It waits until LEDGER
// was read to its end since the last connect.
func (s *subtraction) Outstanding(ctx context.Context, job *event.Job) ([]mail.Recipient, error) {
	rcpts, err := s.memory.Outstanding(ctx, job)
	if err != nil || len(rcpts) == 0 {
		return rcpts, err
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerWait)
	defer cancel()
	if err := s.settled.Wait(ctx); err != nil {
		return nil, err
	}
	ends, _ := s.settled.Ends(job.QueueID)
	if len(ends) == 0 {
		return rcpts, nil
	}
	return slices.DeleteFunc(slices.Clone(rcpts), func(r mail.Recipient) bool {
		_, settled := ends[r.Address]
		return settled
	}), nil
}

// reportAgain asks again for the reports of an earlier run of this attempt
// that recorded failures and may have been killed before it asked. Reports
// that are written are not asked for: their recipients have a terminal end.
func (w *worker) reportAgain(ctx context.Context, job *event.Job) error {
	ends, failed := w.settled.Ends(job.QueueID)
	s := &settlement{}
	for _, r := range failed {
		if r.Job != job.ID || r.Attempt != job.Attempt+1 {
			continue
		}
		kind := event.KindFailed
		if r.Reason == reasonExpired {
			kind = event.KindExpired
		}
		pending := slices.DeleteFunc(slices.Clone(r.Recipients), func(rcpt event.RecipientRecord) bool { return ends[rcpt.Address].Terminal() })
		if len(pending) > 0 {
			s.fail(job, conclusion{now: r.At}, kind, r.Recipients)
		}
	}
	if len(s.failures) == 0 {
		return nil
	}
	if err := store(ctx, w.bus, s); err != nil {
		return fmt.Errorf("report %s again: %w", job.ID, err)
	}
	return nil
}
