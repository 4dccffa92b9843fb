package delivery

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/smtpclient"
)

const (
	// maxConnects and maxSessions bound one attempt over all hosts: a
	// destination with many MXs must not keep us busy. RFC 5321 §5.1 asks for
	// at least two addresses.
	maxConnects = 10
	maxSessions = 4
	// maxRecipients of one transaction: what every server must take (RFC 5321
	// §4.5.3.1.8).
	maxRecipients = 100
	// dotGrace is how long a stopping service waits for the reply to a dot
	// that was sent: a lost reply may cost a duplicate.
	dotGrace = 30 * time.Second
)

var (
	// errStopping cuts an attempt short before the dot.
	errStopping = errors.New("service is stopping")
	// errLapsed: our membership lapsed, another worker may have the job.
	errLapsed = errors.New("membership of this worker lapsed")
)

// attempt is one try to deliver a job: hosts in order, on each as many
// transactions as its recipients need.
type attempt struct {
	mta      *transport
	job      *event.Job
	hop      NextHop
	endings  []ending
	troubles []trouble
	connects int
	sessions int
	// last is what the recipients that no host decided about were told.
	last trouble
	// cut is why the attempt ended early for reasons of ours. Recipients may
	// be left open then.
	cut error
	// lost is what went wrong with our content.
	lost error
}

// transport is what attempts share.
type transport struct {
	hello    string
	rules    *Rules
	finder   *finder
	dialer   *dialer
	pool     *pool
	ailing   *ailing
	timeouts smtpclient.Timeouts
	tls      tlsBase
	content  func(context.Context, mail.QueueID, event.ContentRef) (io.ReadCloser, error)
	// left is how long this worker may yet complete messages, unless it shows
	// another sign of life.
	left    func() time.Duration
	metrics *metrics
}

// newAttempt prepares the recipients. doubt says that all of them may have
// been served by a run of which nothing is known.
func newAttempt(mta *transport, job *event.Job, rcpts []mail.Recipient, doubt bool) *attempt {
	a := &attempt{mta: mta, job: job, endings: make([]ending, len(rcpts))}
	for i, r := range rcpts {
		a.endings[i] = ending{Recipient: r, doubt: doubt || slices.Contains(job.Doubt, r.Address)}
	}
	return a
}

// run makes the attempt. Afterwards every recipient has an end, unless cut
// says why not.
func (a *attempt) run(ctx context.Context) {
	hop, ok := a.mta.rules.NextHop(a.job.Destination)
	if a.job.PHI && a.mta.rules.beyond(a.job.Destination) { // W13
		hop.TLS = max(hop.TLS, LevelVerify)
	}
	a.hop = hop
	switch {
	case !ok:
		settleOpen(a.endings, trouble{reply: replyNoRoute})
		return
	case hop.TLS == LevelDANE:
		settleOpen(a.endings, trouble{reply: replyNoDANE})
		return
	}
	for t, err := range a.mta.finder.targets(ctx, hop) {
		if err != nil {
			a.troubles = append(a.troubles, troubleOf(err, witness{}))
			continue
		}
		if a.connects >= maxConnects || a.sessions >= maxSessions {
			break
		}
		a.visit(ctx, t)
		if a.over() {
			break
		}
	}
	if a.cut == nil && ctx.Err() != nil && a.anyOpen() {
		a.cut = context.Cause(ctx)
	}
	if a.cut == nil {
		a.last = worst(a.troubles)
		settleOpen(a.endings, a.last)
	}
}

// reached reports that some host talked to us.
func (a *attempt) reached() bool { return a.sessions > 0 }

func (a *attempt) over() bool { return a.cut != nil || !a.anyOpen() }

func (a *attempt) anyOpen() bool {
	return slices.ContainsFunc(a.endings, func(e ending) bool { return e.fate == open })
}

func (a *attempt) note(err error, at witness) { a.troubles = append(a.troubles, troubleOf(err, at)) }

// visit gives the message to one host. A session that ended under way after it
// served somebody, or that had been idle and was gone, is replaced once more:
// each round settles a recipient or uses a fresh session.
func (a *attempt) visit(ctx context.Context, t target) {
	e := a.endpoint(t)
	for idle := a.mta.pool.take(e); ; idle = nil {
		s := idle
		if s != nil {
			a.mta.metrics.reused.Inc()
		} else {
			var err error
			if s, err = a.connect(ctx, e); err != nil {
				if ctx.Err() != nil {
					a.cut = context.Cause(ctx)
				}
				return
			}
		}
		a.sessions++
		again := a.transact(ctx, s, witnessOf(t, s))
		a.mta.pool.give(e, s)
		if !again || a.over() {
			return
		}
	}
}

func (a *attempt) endpoint(t target) endpoint {
	return endpoint{target: t, tls: a.hop.TLS.policy(), implicit: a.hop.ImplicitTLS, lmtp: a.hop.LMTP, auth: a.hop.auth}
}

// connect opens a session. Where TLS is a bonus and fails, the host is asked
// again without (RFC 7435 §3); where it is demanded, it is not.
func (a *attempt) connect(ctx context.Context, e endpoint) (*smtpclient.Session, error) {
	s, err := a.start(ctx, e, e.tls)
	var broken *smtpclient.TLSError
	if errors.As(err, &broken) && e.tls == smtpclient.Opportunistic {
		s, err = a.start(ctx, e, smtpclient.Never)
	}
	return s, err
}

func (a *attempt) start(ctx context.Context, e endpoint, policy smtpclient.TLSPolicy) (*smtpclient.Session, error) {
	a.connects++
	a.mta.metrics.open.Inc()
	conn, err := a.mta.dialer.dial(ctx, e.addr, a.mta.metrics.open.Dec)
	if err != nil {
		a.mta.metrics.open.Dec()
		if ctx.Err() == nil {
			a.mta.ailing.add(e.addr)
		}
		a.note(err, witness{})
		return nil, err
	}
	a.mta.ailing.remove(e.addr)
	config := smtpclient.Config{
		Hello: a.mta.hello, TLS: policy, ImplicitTLS: e.implicit, LMTP: e.lmtp,
		TLSConfig: a.mta.tls.config(), AuthInClear: true, Timeouts: a.mta.timeouts,
	}
	if e.auth.User != "" {
		config.Auth = &e.auth
	}
	s, err := smtpclient.Start(ctx, conn, e.host, config)
	if err != nil {
		a.note(err, witness{mta: e.mta()})
		return nil, err
	}
	a.mta.metrics.session(s)
	return s, nil
}

// transact makes transactions until no recipient is open, or the session
// ends. It reports that a fresh session with the same host may do more.
func (a *attempt) transact(ctx context.Context, s *smtpclient.Session, at witness) (again bool) {
	for {
		batch := a.batch(s.Extensions().Limits.RcptMax)
		if len(batch) == 0 {
			return false
		}
		if spent(s) {
			return true
		}
		res, err := a.send(ctx, s, batch)
		if res.Stale {
			return true
		}
		progress := a.read(res, batch, at)
		a.judge(ctx, err, at)
		if a.cut != nil || !progress {
			return false
		}
		if err != nil || !s.Healthy() {
			return true
		}
	}
}

// batch are the next open recipients, as indexes.
func (a *attempt) batch(limit int) (batch []int) {
	if limit <= 0 || limit > maxRecipients {
		limit = maxRecipients
	}
	for i := range a.endings {
		if a.endings[i].fate == open && len(batch) < limit {
			batch = append(batch, i)
		}
	}
	return batch
}

// send makes one transaction.
func (a *attempt) send(ctx context.Context, s *smtpclient.Session, batch []int) (smtpclient.Result, error) {
	rcpts := make([]smtp.ForwardPath, len(batch))
	for i, at := range batch {
		rcpts[i] = a.endings[at].Address
	}
	send, g := a.guard(ctx)
	defer g.end()
	return s.Send(send, smtpclient.Message{
		ReversePath: a.job.Env.ReversePath, Recipients: rcpts, Size: a.job.Size(), Body8Bit: a.job.Env.Body8Bit,
		Content:   func() (io.ReadCloser, error) { return a.open(send) },
		BeforeDot: g.beforeDot, AfterDot: g.afterDot,
	})
}

// open opens the message as it goes out: the prepended fields, the content.
func (a *attempt) open(ctx context.Context) (io.ReadCloser, error) {
	body, err := a.mta.content(ctx, a.job.QueueID, a.job.Content)
	if err != nil {
		a.lost = err
		return nil, err
	}
	return &content{io.MultiReader(strings.NewReader(a.job.Prepend), body), body, &a.lost}, nil
}

// content tells trouble with our store from trouble with the network.
type content struct {
	io.Reader
	io.Closer
	lost *error
}

// Read reads, and notes what goes wrong.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		*c.lost = err
	}
	return n, err
}

// read takes the outcome of a transaction. It reports that somebody's fate
// was decided.
func (a *attempt) read(res smtpclient.Result, batch []int, at witness) (progress bool) {
	taken := slices.ContainsFunc(res.Recipients, func(r smtpclient.RecipientResult) bool { return r.Err == nil })
	for i, r := range res.Recipients {
		e := &a.endings[batch[i]]
		if taken && !a.hop.LMTP && tooMany(r) {
			continue // the next transaction takes it
		}
		fate, reply, doubt := verdict(r, res.Unknown)
		if fate == open {
			if reply.Code == 421 {
				a.troubles = append(a.troubles, trouble{reply: reply, at: at, cause: r.Err})
			}
			continue
		}
		e.fate, e.reply, e.doubt = fate, reply, e.doubt || doubt
		if said(r) {
			e.at = at
		}
		progress = true
	}
	return progress
}

// said reports that the outcome is the server's word and not our conclusion.
func said(r smtpclient.RecipientResult) bool {
	var verdict *smtp.Error
	if errors.As(r.Err, &verdict) {
		return verdict.RemoteMTA != ""
	}
	return r.Err == nil
}

// judge looks at what broke a transaction off. Trouble with our own store is
// no reason to try another host: gone content is told to the ledger and
// waits for the operator, everything else hands the job back.
func (a *attempt) judge(ctx context.Context, err error, at witness) {
	switch {
	case err == nil || !a.anyOpen():
	case errors.Is(a.lost, queue.ErrContentGone), errors.Is(a.lost, queue.ErrContentSize):
		settleOpen(a.endings, trouble{reply: replyContentGone, cause: a.lost})
	case a.lost != nil && ctx.Err() == nil:
		a.cut = a.lost
	case errors.Is(err, errLapsed):
		a.cut = errLapsed
	case ctx.Err() != nil:
		a.cut = errStopping
	default:
		a.note(err, at)
	}
}

// anyDecided reports that the attempt settled somebody.
func (a *attempt) anyDecided() bool {
	return slices.ContainsFunc(a.endings, func(e ending) bool { return e.fate != open })
}
