package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/smtpclient"
)

const (
	// idleFor is how long a session waits for another message. A receiver
	// keeps a process for it: longer is impolite, and RFC 5321 §4.5.4.1 wants
	// sessions reused only while there is work.
	idleFor = 5 * time.Second
	// maxTransactions is how many messages go over one session.
	maxTransactions = 100
	// maxIdle bounds the idle sessions of a worker.
	maxIdle = 256
)

// endpoint is what two messages must have in common to share a session.
type endpoint struct {
	target
	tls      smtpclient.TLSPolicy
	implicit bool
	lmtp     bool
	auth     smtpclient.Credential
}

// pool keeps idle sessions for the next message.
type pool struct {
	quit context.Context // bounds every QUIT

	mu     sync.Mutex
	idle   map[endpoint][]*resting
	count  int
	closed bool
}

// resting is an idle session with its alarm.
type resting struct {
	session *smtpclient.Session
	alarm   *time.Timer
}

func newPool(quit context.Context) *pool {
	return &pool{quit: quit, idle: map[endpoint][]*resting{}}
}

// take gives a session that is idle and, as far as one can see, alive; nil
// when there is none. The one used last comes first.
func (p *pool) take(e endpoint) *smtpclient.Session {
	for {
		r := p.pop(e)
		if r == nil {
			return nil
		}
		if r.session.Healthy() {
			return r.session
		}
		r.session.Close()
	}
}

func (p *pool) pop(e endpoint) *resting {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[e]
	if len(list) == 0 {
		return nil
	}
	r := list[len(list)-1]
	p.remove(e, r)
	return r
}

// remove takes r out. The caller holds mu.
func (p *pool) remove(e endpoint, r *resting) bool {
	i := slices.Index(p.idle[e], r)
	if i < 0 {
		return false
	}
	r.alarm.Stop()
	p.count--
	if p.idle[e] = slices.Delete(p.idle[e], i, i+1); len(p.idle[e]) == 0 {
		delete(p.idle, e)
	}
	return true
}

// give takes a session back. One that is in doubt or has served enough is
// closed, before give returns: the next one may then be opened without
// exceeding anybody's limit.
func (p *pool) give(e endpoint, s *smtpclient.Session) {
	if !s.Healthy() || spent(s) || !p.keep(e, s) {
		s.Quit(p.quit)
	}
}

// spent reports a session that may not take another message.
func spent(s *smtpclient.Session) bool {
	limit := maxTransactions
	if m := s.Extensions().Limits.MailMax; m > 0 { // RFC 9422 §4.1
		limit = min(limit, m)
	}
	return s.Transactions() >= limit
}

func (p *pool) keep(e endpoint, s *smtpclient.Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= maxIdle {
		return false
	}
	r := &resting{session: s}
	r.alarm = time.AfterFunc(idleFor, func() { p.expire(e, r) })
	p.idle[e] = append(p.idle[e], r)
	p.count++
	return true
}

// expire says goodbye to a session that nobody needed.
func (p *pool) expire(e endpoint, r *resting) {
	p.mu.Lock()
	mine := !p.closed && p.remove(e, r)
	p.mu.Unlock()
	if mine {
		r.session.Quit(p.quit)
	}
}

// close says goodbye to all idle sessions. Those given back later are closed.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle, p.count = map[endpoint][]*resting{}, 0
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, list := range idle {
		for _, r := range list {
			r.alarm.Stop()
			all.Go(func() { r.session.Quit(p.quit) })
		}
	}
	all.Wait()
}
