package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
)

// Recovery drives again what a crash, or the loss of a derived stream, took
// from the streams. It looks when its instance begins to lead, after every
// reconnect, and now and then; and when somebody asks for the plan.

// Periods of recovery.
const (
	// tendPeriod is how often the mark of LEDGER is moved and the streams are
	// looked for, and how soon after a failure recovery looks again.
	tendPeriod = 5 * time.Second
	lookPeriod = 10 * time.Minute
	// secondLook is when it looks again after a connect. What workers had in
	// hand comes again after queue.AckWait; until it is done it holds the floor
	// below which a stream is done with, and hides what was lost above.
	secondLook = queue.AckWait + 10*time.Second
	// sayPeriod is how often the log says that recovery is held.
	sayPeriod = time.Minute
	// abreast is how many messages are driven at a time.
	abreast = 32
)

// keyRecovery is where the leader leaves what it found, in the bucket of
// settings: every instance shows it.
const keyRecovery = "recovery"

// recovery is the leader's part that drives.
type recovery struct {
	*Ledger
	// one holds who plans or drives: recovery and a question do not at a time.
	one chan struct{}
	// found is what was last noted; nil before the first plan.
	found atomic.Pointer[books.Recovery]
	// epochs is how many were begun since it last did what it wanted.
	epochs atomic.Int64
	// streams is how many there were when they were complete.
	streams int
	// said is when the log last said that recovery is held, and saidOf why.
	said   time.Time
	saidOf *books.Recovery
}

// recovering recovers until ctx ends.
func (l *Ledger) recovering(ctx context.Context) error {
	r := &recovery{Ledger: l, one: make(chan struct{}, 1)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { r.keepLooking(ctx); return nil })
	group.Go(func() error {
		return l.serve(ctx, "", map[books.Question]answerer{books.QuestionRecover: r.answer}, func() {})
	})
	return group.Wait()
}

// keepLooking looks when it is time, and keeps mark and streams meanwhile.
func (r *recovery) keepLooking(ctx context.Context) {
	status := r.bus.NC.StatusChanged(nats.CONNECTED)
	defer r.bus.NC.RemoveStatusListener(status)
	tick := time.NewTicker(tendPeriod)
	defer tick.Stop()
	due, second := time.Now(), true
	for {
		replaced, err := r.tend(ctx)
		if replaced {
			due, second = time.Now(), true
		}
		if err == nil && !time.Now().Before(due) {
			err = r.look(ctx)
			due = time.Now().Add(r.pause(err, second))
			if err == nil {
				second = false
				err = r.expedite(ctx, time.Now()) // what is left, at the next look
			}
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			r.streams = 0 // whatever their number
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn().Err(err).Msg("recovery cannot look, trying again")
		}
		select {
		case <-ctx.Done():
			r.lastMark(ctx)
			return
		case <-status:
			due, second = time.Now(), true
		case <-r.unbalanced:
			due = time.Now()
		case <-tick.C:
		}
	}
}

// lastMark moves the mark once more, so that one who stops in order leaves it
// where LEDGER is.
func (r *recovery) lastMark(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tendPeriod)
	defer cancel()
	if err := r.bus.MarkLedger(ctx); err != nil && r.bus.NC.IsConnected() {
		r.log.Warn().Err(err).Msg("cannot move the mark of LEDGER")
	}
}

// tend makes sure of the streams, and moves the mark of LEDGER.
func (r *recovery) tend(ctx context.Context) (replaced bool, err error) {
	if replaced, err = r.replaceStreams(ctx); err != nil {
		return replaced, err
	}
	err = r.bus.MarkLedger(ctx)
	rolledBack := errors.Is(err, queue.ErrRolledBack)
	if rolledBack {
		r.holding.Store(true)
	}
	found := r.found.Load()
	if held := rolledBack || found != nil && found.Held != ""; held && (time.Since(r.said) >= sayPeriod || r.saidOf != found) {
		r.said, r.saidOf = time.Now(), found
		r.log.Error().Err(err).Interface("found", found).Msg("recovery is held; see: postrider ledger recover --plan")
	}
	if rolledBack {
		err = nil
	}
	return replaced, err
}

// replaceStreams makes the streams again that are missing: a derived stream may
// be deleted while services run.
func (r *recovery) replaceStreams(ctx context.Context) (replaced bool, err error) {
	have, err := r.countStreams(ctx)
	if err != nil || r.streams > 0 && have >= r.streams {
		return false, err
	}
	if err := r.ensure(ctx); err != nil {
		return false, err
	}
	if replaced = have < r.streams; replaced {
		r.log.Warn().Int("missing", r.streams-have).Msg("streams were missing and are made again")
	}
	r.streams, err = r.countStreams(ctx)
	return replaced, err
}

func (r *recovery) countStreams(ctx context.Context) (n int, err error) {
	names := r.bus.JS.StreamNames(ctx)
	for range names.Name() {
		n++
	}
	if err := names.Err(); err != nil {
		return 0, fmt.Errorf("list streams: %w", err)
	}
	return n, nil
}

// look drives what is lost, unless that must be confirmed.
func (r *recovery) look(ctx context.Context) error {
	r.opened.RLock()
	defer r.opened.RUnlock()
	return r.alone(ctx, func() error {
		p, plan, err := r.plan(ctx)
		if err != nil || plan.ID == "" || plan.Held != "" {
			return err
		}
		return r.carryOut(ctx, p, recoverer, func(int, int) {})
	})
}

// answer answers who asks for the plan, or confirms it.
func (r *recovery) answer(ctx context.Context, data []byte, out *output) error {
	var q books.RecoverQuestion
	if err := readQuestion(data, &q); err != nil {
		return err
	}
	var plan *books.Plan
	err := r.alone(ctx, func() (err error) {
		var p *planner
		p, plan, err = r.plan(ctx)
		if err != nil || q.Confirm == "" {
			return err
		}
		switch plan.ID {
		case q.Confirm:
		case "":
			return fmt.Errorf("%w: nothing is to do any more", books.ErrPlanChanged)
		default:
			return fmt.Errorf("%w: it is %s now, and not %s; read it again", books.ErrPlanChanged, plan.ID, q.Confirm)
		}
		plan.Done = true
		return r.carryOut(ctx, p, q.Actor, func(done, total int) {
			out.Encode(books.Progress{Done: done, Total: total})
			out.Flush()
		})
	})
	if err != nil {
		return err
	}
	return out.Encode(books.Progress{Plan: plan})
}

// alone runs one plan or drive at a time.
func (r *recovery) alone(ctx context.Context, run func() error) error {
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return run()
}

// plan finds what is to be done.
func (r *recovery) plan(ctx context.Context) (*planner, *books.Plan, error) {
	err := r.bus.CheckLedger(ctx)
	rolledBack := errors.Is(err, queue.ErrRolledBack)
	if err != nil && !rolledBack {
		return nil, nil, err
	}
	why, about := "", ""
	if rolledBack {
		why = err.Error()
		mark, err := r.bus.LedgerMark(ctx)
		if err != nil {
			return nil, nil, err
		}
		about = mark.Stream + "/" + strconv.FormatUint(mark.Seq, 10)
	}
	s, err := r.newSurvey(ctx, rolledBack)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	p := newPlanner(about)
	err = s.each(ctx, func(f *fact) error {
		p.add(f, decide(f))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	p.plan.AsOf, p.plan.Evidence = time.Now().UTC(), s.evidence()
	plan := p.finish(why)
	return p, plan, r.note(ctx, plan)
}

// note leaves what was found for status and metrics.
func (r *recovery) note(ctx context.Context, plan *books.Plan) error {
	r.holding.Store(plan.Held != "")
	found := books.Recovery{Held: plan.Held, Gone: plan.Of(books.ActionGone).Recipients}
	if found.Held != "" {
		found.Plan = plan.ID
	}
	if found.Gone > 0 {
		r.log.Error().Int("recipients", found.Gone).Interface("first", plan.Of(books.ActionGone).Examples).Msg("mail is lost with its content, and cannot be driven again")
	}
	if before := r.found.Load(); before != nil && *before == found {
		return nil
	}
	kv, err := r.bus.JS.KeyValue(ctx, queue.BucketSettings)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", queue.BucketSettings, err)
	}
	data, err := json.Marshal(found)
	if err == nil {
		_, err = kv.Put(ctx, keyRecovery, data)
	}
	if err != nil {
		return fmt.Errorf("note what recovery found: %w", err)
	}
	r.found.Store(&found)
	return nil
}

// recoveryFound reads what the leader noted.
func (l *Ledger) recoveryFound(ctx context.Context) (found books.Recovery, err error) {
	kv, err := l.bus.JS.KeyValue(ctx, queue.BucketSettings)
	if err != nil {
		return found, fmt.Errorf("open bucket %s: %w", queue.BucketSettings, err)
	}
	entry, err := kv.Get(ctx, keyRecovery)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return found, nil
	}
	if err == nil {
		err = json.Unmarshal(entry.Value(), &found)
	}
	if err != nil {
		return found, fmt.Errorf("read what recovery found: %w", err)
	}
	return found, nil
}

// carryOut does what a plan says, as far as it still holds once nobody has
// anything of it in hand. In the end LEDGER is what it is.
func (r *recovery) carryOut(ctx context.Context, p *planner, actor string, tell func(done, total int)) error {
	epoch, err := r.quiet(ctx)
	if err != nil {
		return err
	}
	rolledBack := p.plan.RolledBack != ""
	s, err := r.newSurvey(ctx, rolledBack)
	if err != nil {
		return err
	}
	defer s.close()
	d := &driver{survey: s, actor: actor, round: strconv.Itoa(epoch)}
	if err := r.steps(ctx, d, p, tell); err != nil {
		return err
	}
	if rolledBack {
		if err := r.bus.AcceptLedger(ctx); err != nil {
			return err
		}
		r.log.Warn().Str("actor", actor).Msg("LEDGER is accepted as it is")
	}
	err = r.note(ctx, &books.Plan{Actions: []books.PlanAction{p.plan.Of(books.ActionGone)}})
	if err == nil {
		r.epochs.Store(0)
	}
	return err
}

// steps carries out the steps that are in the plan and still hold.
func (r *recovery) steps(ctx context.Context, d *driver, p *planner, tell func(done, total int)) error {
	var done atomic.Int64
	group, driving := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	err := d.each(ctx, func(f *fact) error {
		group.Go(func() error {
			err := r.stepsOf(driving, d, p, f)
			done.Add(1)
			return err
		})
		if n := int(done.Load()); n%100 == 0 {
			tell(n, p.moves)
		}
		return driving.Err()
	})
	if failed := group.Wait(); failed != nil {
		return failed
	}
	tell(int(done.Load()), p.moves)
	return err
}

// stepsOf carries out the steps of one message.
func (r *recovery) stepsOf(ctx context.Context, d *driver, p *planner, f *fact) error {
	ctx, cancel := context.WithTimeout(ctx, driveTimeout)
	defer cancel()
	for _, s := range decide(f) {
		if !s.action.Moves() || !p.has(f, s) {
			continue
		}
		err := d.do(ctx, f, s)
		if unanswerable(err) {
			r.log.Error().Err(err).Str("queue_id", string(f.queueID)).Str("action", string(s.action)).Msg("recovery cannot do this")
			continue
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.action, f.queueID, err)
		}
		r.metrics.recovered.WithLabelValues(string(s.action)).Add(float64(len(s.rcpts)))
		r.log.Info().Str("queue_id", string(f.queueID)).Str("action", string(s.action)).Int("recipients", len(s.rcpts)).Str("actor", d.actor).Msg("recovered")
	}
	return nil
}
