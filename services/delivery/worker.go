package delivery

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	domains "github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtpclient"
)

// settings are what tests set otherwise.
type settings struct {
	dns      resolver // nil: the configured one
	port     uint16   // of MXs; 0: 25
	roots    *x509.CertPool
	timeouts smtpclient.Timeouts
	ttl      time.Duration // of membership
	grace    time.Duration
}

// worker handles the jobs of its partitions.
type worker struct {
	bus      *queue.Bus
	log      zerolog.Logger
	settings settings
	mta      *transport
	hosted   []*registry.Domain // by the configuration file
	limits   *limits
	memory   *memory
	earlier  *subtraction
	settled  *queue.Settled
	rota     *rota
	schedule schedule
	metrics  *metrics
	member   *membership
	slots    map[mail.Lane]chan struct{}
	holdings *queue.Holdings // nil for none
	close    func()
}

func newWorker(env *service.Env, s settings) (*worker, error) {
	rules, err := NewRules(env.Config)
	if err != nil {
		return nil, err
	}
	if s.port != 0 {
		rules.port = s.port
	}
	w := &worker{
		bus: env.Bus, log: env.Log, settings: s, hosted: env.Config.FileEntries().Domains,
		limits:   newLimits(max(1, env.Config.Delivery.Connections)),
		memory:   newMemory(),
		schedule: schedule{retry: env.Config.Delivery.Retry, lifetime: env.Config.Delivery.Lifetime},
		metrics:  newMetrics(env.Metrics),
		slots:    map[mail.Lane]chan struct{}{},
		close:    func() {},
	}
	if len(w.schedule.retry) == 0 {
		return nil, errors.New("read delivery.retry: no delay is given")
	}
	if w.settings.dns == nil {
		r, err := dnsx.New(dnsx.Config{Servers: env.Config.DNS.Servers()})
		if err != nil {
			return nil, err
		}
		w.settings.dns, w.close = r, r.Close
	}
	w.settled = env.Bus.NewSettled()
	w.settled.Hindered = func(why error) { env.Hindered("ledger", why) }
	w.earlier = &subtraction{memory: w.memory, settled: w.settled, covers: w.settled.Covers, books: books.Client(env.Bus), log: env.Log}
	for _, l := range lanes() {
		w.slots[l.lane] = make(chan struct{}, l.worker)
	}
	avoid := newAiling()
	w.mta = &transport{
		hello: env.Config.Relay.Hostname, rules: rules, ailing: avoid,
		finder:   &finder{dns: w.settings.dns, self: newSelf(env.Config), avoid: avoid},
		dialer:   &dialer{sources: env.Config.Delivery.SourceAddresses},
		pool:     newPool(context.Background()),
		timeouts: s.timeouts, tls: newTLSBase(s.roots), content: env.Bus.Open,
		left:    func() time.Duration { return w.member.left() },
		metrics: w.metrics,
	}
	return w, nil
}

// run works until ctx ends and what was begun is finished or handed back.
func (w *worker) run(ctx context.Context, name string, ready func()) error {
	defer w.close()
	var err error
	if w.member, err = join(ctx, w.bus, name, w.settings.ttl); err != nil {
		return err
	}
	if err := w.followDomains(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if w.holdings, err = w.bus.FollowHoldings(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// The rota is followed until the last partition was handed over.
	following, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	if w.rota, err = openRota(ctx, w.bus, name, w.member.lives); err != nil {
		unfollow()
		return err
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer unfollow()
	reading.Go(func() { w.settled.Follow(ctx) })
	reading.Go(func() { w.rota.follow(following) })
	reading.Go(func() {
		if err := w.answerCallouts(ctx); err != nil {
			w.log.Warn().Err(err).Msg("nobody is told whether mailboxes exist")
		}
	})
	serving := newServing(ctx, w, ready)
	w.member.run(ctx, func(mine []int) {
		w.log.Info().Ints("partitions", mine).Msg("serving partitions")
		w.metrics.partitions.Set(float64(len(mine)))
		serving.only(mine)
	}, serving.renew)
	gone := w.member.leave(ctx)
	serving.only(nil)
	serving.wait()
	w.mta.pool.close()
	gone()
	return nil
}

// followDomains keeps the hosted domains as the registry has them, with their
// routes, and returns when they were read: a domain that was hosted by command
// must not be looked for in the DNS.
func (w *worker) followDomains(ctx context.Context) error {
	reg, err := domains.Open(ctx, w.bus, registry.Entries{Domains: w.hosted})
	if err != nil {
		return err
	}
	read, failed := make(chan struct{}), make(chan error, 1)
	go func() { failed <- reg.Follow(ctx, func() { close(read) }) }()
	select {
	case <-read:
	case err := <-failed:
		return err
	}
	w.mta.rules.hosted = func(domain string) (route string, ok bool) {
		d, ok := reg.Snapshot().Domain(domain)
		if ok {
			route = d.Route
		}
		return route, ok
	}
	return nil
}

// handle handles one job of a tenure.
func (w *worker) handle(ctx context.Context, m queue.Message, t *tenure) error {
	job, err := event.Decode[event.Job](m.Data)
	if err != nil {
		return queue.Poison(err)
	}
	if err := w.bus.Intake.GiveWay(ctx, "delivery", job.Class.Lane(), m.Stored); err != nil {
		return err
	}
	memo := w.memory.begin(job, m, t)
	switch memo.standing {
	case settled:
		return nil
	case running: // the bus delivered it again while it was under way
		return queue.Later(10*time.Second, "job is under way")
	}
	defer w.memory.end(job)
	if memo.standing == known {
		return w.store(ctx, job, memo.decided)
	}
	m.Delivered = memo.delivered // before it came here
	if !memo.judged && t.held(m, job) {
		w.memory.hold(job)
		return queue.Later(waitHeld, "the worker that had the job has not finished")
	}
	rcpts, ends, err := w.earlier.outstanding(ctx, job, !memo.judged && t.inherits(m, job))
	unknown := errors.Is(err, errUnknown)
	if err == nil {
		err = w.reportAgain(ctx, job, ends)
	}
	if !unknown && (err != nil || len(rcpts) == 0) {
		return err
	}
	if !memo.judged {
		memo.doubt = memo.doubt || t.doubt(m, job)
		w.memory.judge(job, memo.doubt)
	}
	if unknown {
		return w.setAside(ctx, m, job, memo.doubt)
	}
	job = renumber(job, ends)
	if why := w.holdings.Of(job); why != nil {
		return w.hold(ctx, m, job, rcpts, memo.doubt, why)
	}
	return w.serveJob(ctx, m, job, rcpts, memo.doubt)
}

// serveJob brings a job to those who wait for it, when its turn comes.
func (w *worker) serveJob(ctx context.Context, m queue.Message, job *event.Job, rcpts []mail.Recipient, doubt bool) error {
	var busy *busyError
	switch err := w.limits.enter(ctx, job.Destination, job.Class.Lane() == mail.LaneAlert); {
	case errors.As(err, &busy):
		return w.turnAway(ctx, m, job, newAttempt(w.mta, job, rcpts, doubt), busy.at)
	case err != nil:
		return err
	}
	w.memory.mark(job, false)
	err := w.deliver(ctx, job, newAttempt(w.mta, job, rcpts, doubt))
	if errors.Is(err, errUncounted) {
		w.memory.mark(job, !doubt)
	}
	return err
}

// renumber makes the next attempt of a run that repeats one of which a failure
// stands in LEDGER: another failure needs another report.
func renumber(job *event.Job, ends *queue.Ends) *event.Job {
	if ends == nil || !slices.ContainsFunc(ends.Failed, func(r *event.Record) bool { return sameAttempt(r, job) }) {
		return job
	}
	next := *job
	next.Attempt++
	return &next
}

// sameAttempt reports a record of the attempt that is made of a job.
func sameAttempt(r *event.Record, job *event.Job) bool {
	return r.Job == job.ID && r.Attempt == job.Attempt+1 && r.Drive == job.Drive
}

// errUncounted is an attempt that settled nobody and sent no dot.
var errUncounted = errors.New("attempt does not count")

// deliver makes the attempt and stores what follows from it.
func (w *worker) deliver(ctx context.Context, job *event.Job, a *attempt) error {
	took := w.attempt(ctx, job, a)
	if a.cut != nil && !a.anyDecided() {
		w.metrics.attempts.WithLabelValues("cut").Inc()
		return fmt.Errorf("deliver %s to %s: %w: %w", job.ID, job.Destination, errUncounted, a.cut)
	}
	c := w.conclusion(a.cut != nil)
	if a.cut != nil {
		settleOpen(a.endings, trouble{reply: replyCutShort, cause: a.cut})
	}
	switch {
	case a.lost != nil:
		c.reason = a.lost.Error()
	case a.last.cause != nil && a.last.at.mta == "": // the reply is ours and says less
		c.reason = clip(a.last.cause.Error(), textMost)
	}
	w.metrics.attempts.WithLabelValues(class(a.endings)).Inc()
	w.metrics.seconds.WithLabelValues(class(a.endings)).Observe(took.Seconds())
	return w.settle(ctx, job, a, c)
}

// conclusion names this run. soon: it was cut short.
func (w *worker) conclusion(soon bool) conclusion {
	return conclusion{now: time.Now(), chance: rand.Float64(), run: strconv.FormatUint(rand.Uint64(), 36), schedule: w.schedule, soon: soon}
}

// attempt makes the attempt and gives the place at its destination back,
// whatever happens. Only a slow failure counts against the destination: a
// refused connection keeps nobody waiting.
func (w *worker) attempt(ctx context.Context, job *event.Job, a *attempt) (took time.Duration) {
	begun := time.Now()
	defer func() {
		took = time.Since(begun)
		w.limits.leave(job.Destination, took, a.reached() || took < time.Second)
	}()
	a.run(ctx)
	return took
}

// settle decides what follows, remembers it, and stores it.
func (w *worker) settle(ctx context.Context, job *event.Job, a *attempt, c conclusion) error {
	s := conclude(job, a.endings, c)
	w.memory.decide(job, s)
	w.metrics.settled(s)
	w.report(job, s, a.troubles)
	return w.store(ctx, job, s)
}

func (w *worker) store(ctx context.Context, job *event.Job, s *settlement) error {
	if err := store(ctx, w.bus, s); err != nil {
		return fmt.Errorf("settle %s: %w", job.ID, err)
	}
	w.memory.store(job, s)
	return nil
}

// turnAway gives a job an appointment with a busy destination. It is no
// attempt; but a job whose lifetime ended meanwhile has waited long enough.
func (w *worker) turnAway(ctx context.Context, m queue.Message, job *event.Job, a *attempt, at time.Time) error {
	now := time.Now()
	deadline := w.schedule.deadline(job.AcceptedAt, job.Class)
	if !now.Before(deadline) {
		settleOpen(a.endings, trouble{reply: replyBusy})
		return w.settle(ctx, job, a, w.conclusion(false))
	}
	if at.After(deadline) {
		at = deadline
	}
	later := *job
	later.Env.Recipients, later.Doubt = waiting(a.endings, open)
	later.LastReply = replyBusy.String()
	return w.appoint(ctx, m, &later, at)
}

// setAside gives a job of which nobody knows what became of its recipients an
// appointment, whatever its lifetime. In the stream, handed back again and
// again, as many as a consumer may have in hand would hold up all newer mail.
func (w *worker) setAside(ctx context.Context, m queue.Message, job *event.Job, doubt bool) error {
	later := *job
	if doubt {
		later.Doubt = event.ForwardPaths(job.Env.Recipients)
	}
	return w.appoint(ctx, m, &later, time.Now().Add(booksPause+rand.N(booksPause)))
}

// appoint lets a job come again at a time, in place of the message that brought
// it.
func (w *worker) appoint(ctx context.Context, m queue.Message, later *event.Job, at time.Time) error {
	if err := postpone(ctx, w.bus, later, fmt.Sprintf("%s/turn/%d", later.ID, m.Seq), at); err != nil {
		return err
	}
	w.metrics.turned.Inc()
	w.memory.turn(later, m)
	return nil
}

// report writes the log lines of a settled attempt: one for each outcome.
func (w *worker) report(job *event.Job, s *settlement, troubles []trouble) {
	for _, r := range s.records {
		first := r.Recipients[0]
		line := w.log.Info()
		if r.Outcome != event.Delivered {
			var causes []error
			for _, t := range troubles {
				causes = append(causes, t.cause)
			}
			line = line.Errs("causes", causes)
		}
		if !r.Next.IsZero() {
			line = line.Time("next", r.Next)
		}
		line.Str("queue_id", string(job.QueueID)).Str("destination", job.Destination).Int("attempt", r.Attempt).
			Str("outcome", string(r.Outcome)).Int("recipients", len(r.Recipients)).Str("status", first.Reply.Status()).
			Str("reply", clip(first.Reply.String(), 256)).Str("remote_mta", first.RemoteMTA).Str("tls", first.TLS).
			Str("reason", r.Reason).Msg("attempt settled")
	}
}
