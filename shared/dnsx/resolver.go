package dnsx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Defaults of Config.
const (
	DefaultTimeout    = 3 * time.Second
	DefaultAttempts   = 2
	DefaultCacheBytes = 32 << 20
)

const (
	// maxLookup bounds one lookup over all servers, tries and CNAMEs.
	maxLookup = 30 * time.Second
	// maxUnderWay bounds the lookups, and so the sockets, open at one time;
	// more wait.
	maxUnderWay = 512
)

// Config says whom to ask. The zero value asks the system's resolvers.
type Config struct {
	// Servers are recursive resolvers, host:port, in the order of preference.
	// AD is believed of loopback addresses. Empty: those of /etc/resolv.conf,
	// never believed.
	Servers []string
	// Timeout is for one try of one server over one network. Zero:
	// DefaultTimeout.
	Timeout time.Duration
	// Attempts is how often a server that does not answer is asked. One that
	// declines is not asked twice. Zero: DefaultAttempts.
	Attempts int
	// CacheBytes bounds the memory of the cache, roughly, in octets. Zero:
	// DefaultCacheBytes.
	CacheBytes int
	// Dial connects to a server, for network "udp" and "tcp". Nil: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Resolver asks the DNS and keeps the answers. Its methods may be called from
// any goroutine.
type Resolver struct {
	transport transport
	attempts  int
	servers   func(now time.Time) []*server
	cache     *cache

	flights  singleflight.Group
	underWay chan struct{}
	// life ends with Close. Lookups hang on it, not on the context of whoever
	// asked first: others wait for them too.
	life context.Context
	end  context.CancelFunc
}

// New makes a Resolver. Close it when it is no longer needed.
func New(c Config) (*Resolver, error) {
	list, err := configured(c.Servers)
	if err != nil {
		return nil, err
	}
	if c.Timeout < 0 || c.Attempts < 0 || c.CacheBytes < 0 {
		return nil, errors.New("read DNS settings: a negative timeout, number of attempts or cache size")
	}
	kept, err := newCache(orDefault(c.CacheBytes, DefaultCacheBytes))
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		transport: transport{dial: c.Dial, timeout: orDefault(c.Timeout, DefaultTimeout)},
		attempts:  orDefault(c.Attempts, DefaultAttempts),
		servers:   func(time.Time) []*server { return list },
		cache:     kept,
		underWay:  make(chan struct{}, maxUnderWay),
	}
	if r.transport.dial == nil {
		r.transport.dial = new(net.Dialer).DialContext
	}
	if len(list) == 0 {
		r.servers = (&system{path: "/etc/resolv.conf"}).servers
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r, nil
}

// Close ends the lookups under way, which fail, and releases the cache.
func (r *Resolver) Close() {
	r.end()
	r.cache.close()
}

// lookup gives the answer to a question from the cache or the servers. Equal
// questions asked at the same time are one lookup. The error is of ctx, or a
// *TemporaryError; a definite no is in the answer.
func (r *Resolver) lookup(ctx context.Context, q question) (entry, error) {
	if err := ctx.Err(); err != nil {
		return entry{}, fmt.Errorf("look up %s: %w", q, err)
	}
	if e, ok := r.cache.fresh(q, time.Now()); ok {
		return e, e.failure()
	}
	done := r.flights.DoChan(q.String(), func() (any, error) { return r.refresh(q), nil })
	select {
	case result := <-done:
		e := result.Val.(entry)
		return e, e.failure()
	case <-ctx.Done():
		return entry{}, fmt.Errorf("look up %s: %w", q, ctx.Err())
	}
}

// refresh asks the servers and renews the cache.
func (r *Resolver) refresh(q question) entry {
	// The flight before this one may have landed after the cache was read.
	if e, ok := r.cache.fresh(q, time.Now()); ok {
		return e
	}
	ctx, cancel := context.WithTimeoutCause(r.life, maxLookup, errTimeout)
	defer cancel()
	a, err := r.resolve(ctx, q)
	now := time.Now()
	if err == nil {
		return r.cache.put(q, answered(q, a, now))
	}
	if old, ok := r.cache.usable(q, now); ok {
		return r.cache.put(q, old.prolonged(now))
	}
	return r.cache.put(q, failed(&TemporaryError{q.String(), err}, now))
}

// resolve follows the question to the end of its CNAME chain.
func (r *Resolver) resolve(ctx context.Context, q question) (answer, error) {
	select {
	case r.underWay <- struct{}{}:
		defer func() { <-r.underWay }()
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
	c := newChain(q)
	for {
		m, authentic, err := r.ask(ctx, question{c.end(), q.qtype})
		if err != nil {
			return answer{}, err
		}
		if a, done, err := c.read(m, authentic); done || err != nil {
			return a, err
		}
	}
}

// ask tries the servers in turn until one answers. One that is silent is tried
// again in the next round; one that declined is not.
func (r *Resolver) ask(ctx context.Context, q question) (m *dns.Msg, authentic bool, err error) {
	now := time.Now()
	servers := inTurn(r.servers(now), now)
	declined := make(map[*server]bool)
	var failures []error
	for range r.attempts {
		for _, s := range servers {
			if declined[s] {
				continue
			}
			m, err := r.transport.exchange(ctx, s.address, q)
			switch {
			case err == nil:
				s.wake()
				if err = sound(m, q); err == nil {
					return m, s.trusted && m.AuthenticatedData, nil
				}
				declined[s] = true
				if s.trusted && m.Rcode == dns.RcodeServerFailure {
					// It may have found forged data (RFC 4035 §5.5): a
					// server that does not look is not asked.
					decline(declined, servers)
				}
			case ctx.Err() == nil:
				s.rest(time.Now())
			}
			failures = append(failures, fmt.Errorf("%s: %w", s.address, err))
			if ctx.Err() != nil {
				return nil, false, join(failures)
			}
		}
	}
	return nil, false, join(failures)
}

// decline speaks for the servers that are not trusted.
func decline(declined map[*server]bool, servers []*server) {
	for _, s := range servers {
		if !s.trusted {
			declined[s] = true
		}
	}
}

// join is all errors on one line.
func join(failures []error) error {
	var all error
	for _, err := range failures {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

func orDefault[T int | time.Duration](value, standard T) T {
	if value == 0 {
		return standard
	}
	return value
}
