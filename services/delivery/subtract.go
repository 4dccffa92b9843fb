package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// How long a job waits in hand for LEDGER to be read, and for an answer about
// an older message; how long it then stays away, of the second up to twice as
// long; and how long nobody else asks after a question was not answered.
const (
	ledgerWait   = 15 * time.Second
	booksWait    = 10 * time.Second
	ledgerPause  = 10 * time.Second
	booksPause   = 2 * time.Minute
	booksSilence = 5 * time.Second
)

// errUnknown is why a job waits: the ledger service does not say what became of
// its recipients.
var errUnknown = errors.New("ends of the recipients are not known")

// subtraction takes from a job whom this process, LEDGER, or the ledger service
// knows to be settled: a worker that was killed may have stored its record and
// not its acknowledgement. The last are asked only about what is older than
// what this process keeps of LEDGER.
type subtraction struct {
	memory  *memory
	settled *queue.Settled
	// covers reports that settled knows every end of a message accepted then.
	covers func(time.Time) bool
	books  library
	log    zerolog.Logger

	mu    sync.Mutex
	mute  time.Time // until then the ledger service is not asked
	said  time.Time
	quiet int // jobs that wait since
}

// library answers what became of a message.
type library interface {
	Ends(ctx context.Context, id mail.QueueID, atLeast uint64) (*books.Ends, error)
	Trace(ctx context.Context, text string) (*books.Trace, error)
}

// outstanding are the recipients of a job without a known end, and what LEDGER
// said about the others. others says that somebody else may have had the job
// a moment ago. Where LEDGER cannot be read, the error makes the job come again;
// where the ledger service does not answer, it is errUnknown.
func (s *subtraction) outstanding(ctx context.Context, job *event.Job, others bool) ([]mail.Recipient, *queue.Ends, error) {
	rcpts := s.memory.outstanding(job)
	if len(rcpts) == 0 {
		return nil, nil, nil
	}
	if err := s.wait(ctx, others); err != nil {
		if ctx.Err() != nil {
			return nil, nil, err
		}
		return nil, nil, queue.Later(ledgerPause, err.Error())
	}
	ends, err := s.settled.Of(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	rcpts = without(rcpts, func(a smtp.ForwardPath) bool { return ends.Settled(a, job.Drive) })
	if len(rcpts) == 0 || s.covers(job.AcceptedAt) {
		return rcpts, ends, nil
	}
	rcpts, err = s.lookUp(ctx, job, rcpts)
	return rcpts, ends, err
}

func (s *subtraction) wait(ctx context.Context, others bool) error {
	ctx, cancel := context.WithTimeout(ctx, ledgerWait)
	defer cancel()
	if others {
		return s.settled.CatchUp(ctx)
	}
	return s.settled.Wait(ctx)
}

// lookUp asks the ledger service about an older message.
func (s *subtraction) lookUp(ctx context.Context, job *event.Job, rcpts []mail.Recipient) ([]mail.Recipient, error) {
	if s.muted() {
		return nil, errUnknown
	}
	asking, cancel := context.WithTimeout(ctx, booksWait)
	defer cancel()
	known, err := s.books.Ends(asking, job.QueueID, s.settled.From())
	driven := func(smtp.ForwardPath) bool { return false }
	if err == nil && known.Drive > job.Drive {
		driven, err = s.driven(asking, job, known.Drive)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask for the ends of %s: %w", job.QueueID, err)
		}
		s.unanswered(job, err)
		return nil, errUnknown
	}
	return without(rcpts, func(a smtp.ForwardPath) bool {
		outcome := event.Outcome(known.Ends[a.String()])
		return outcome.Terminal() || outcome == event.Failed || driven(a)
	}), nil
}

// driven asks which recipients recovery drove after this job was made: the
// others of the message may still wait for it.
func (s *subtraction) driven(ctx context.Context, job *event.Job, last int) (func(smtp.ForwardPath) bool, error) {
	trace, err := s.books.Trace(ctx, string(job.QueueID))
	if err != nil {
		return nil, err
	}
	ends, complete := &queue.Ends{}, false
	for i := range trace.Records {
		r := &trace.Records[i].Record
		ends.Add(r)
		complete = complete || r.Outcome == event.Driven && r.Drive == last
	}
	if !complete {
		return nil, fmt.Errorf("drive %d of %s is not in its trace", last, job.QueueID)
	}
	return func(a smtp.ForwardPath) bool { return ends.Settled(a, job.Drive) }, nil
}

func (s *subtraction) muted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().After(s.mute) {
		return false
	}
	s.quiet++
	return true
}

// unanswered keeps others from asking for a while, and says so once a minute.
func (s *subtraction) unanswered(job *event.Job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.mute = now.Add(booksSilence)
	s.quiet++
	if now.Sub(s.said) < time.Minute {
		return
	}
	s.log.Warn().Err(err).Str("queue_id", string(job.QueueID)).Int("jobs", s.quiet).
		Msg("older jobs wait: the ledger service does not say what became of them")
	s.said, s.quiet = now, 0
}

func without(rcpts []mail.Recipient, settled func(smtp.ForwardPath) bool) []mail.Recipient {
	if !slices.ContainsFunc(rcpts, func(r mail.Recipient) bool { return settled(r.Address) }) {
		return rcpts
	}
	return slices.DeleteFunc(slices.Clone(rcpts), func(r mail.Recipient) bool { return settled(r.Address) })
}

// reportAgain asks again for the reports of an earlier run of this attempt
// that recorded failures and may have been killed before it asked. Reports
// that are written are not asked for: their recipients have a terminal end.
func (w *worker) reportAgain(ctx context.Context, job *event.Job, ends *queue.Ends) error {
	if ends == nil {
		return nil
	}
	s := &settlement{}
	for _, r := range ends.Failed {
		if !sameAttempt(r, job) {
			continue
		}
		kind := event.KindFailed
		if r.Reason == reasonExpired {
			kind = event.KindExpired
		}
		if slices.ContainsFunc(r.Recipients, func(rcpt event.RecipientRecord) bool { return !ends.Outcomes[rcpt.Address].Terminal() }) {
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
