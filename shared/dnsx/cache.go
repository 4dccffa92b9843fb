package dnsx

import (
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/miekg/dns"
)

// How long what is kept.
const (
	minTTL      = 5 * time.Second
	maxTTL      = time.Hour
	maxNegative = 5 * time.Minute // RFC 2308 §5 advises 1 to 3 hours; a new MX should not wait
	failureTTL  = 5 * time.Second // RFC 9520 §3.2
	maxStale    = time.Hour       // past the end, MX records only (RFC 8767 §5)
)

// entry is an answer or a failure, and how long it holds. It is not changed
// once made.
type entry struct {
	answer answer
	err    *TemporaryError
	// until is the time to which it is served without asking.
	until time.Time
	// usable is the time to which it is kept, to be served when the servers
	// fail. Only records of MX are kept longer than they are served.
	usable time.Time
	// stale: it is served after its end because the servers failed.
	stale bool
}

// answered is the entry of an answer.
func answered(q question, a answer, now time.Time) entry {
	longest := maxTTL
	if a.no != nil {
		longest = maxNegative
	}
	e := entry{answer: a, until: now.Add(min(max(a.ttl, minTTL), longest))}
	e.usable = e.until
	if q.qtype == dns.TypeMX && a.no == nil {
		e.usable = e.until.Add(maxStale)
	}
	return e
}

// failed is the entry of a failure: it spares servers in trouble.
func failed(err *TemporaryError, now time.Time) entry {
	until := now.Add(failureTTL)
	return entry{err: err, until: until, usable: until}
}

// prolonged is an ended entry, served until the servers are asked again. The
// cache forgets it at usable all the same.
func (e entry) prolonged(now time.Time) entry {
	e.stale = true
	e.until = now.Add(failureTTL)
	return e
}

// failure is the error of the entry, without the typed nil.
func (e entry) failure() error {
	if e.err != nil {
		return e.err
	}
	return nil
}

// octets is about what the entry takes in memory.
func (e entry) octets() uint32 {
	n := 256 + len(e.answer.canonical)
	for _, rr := range e.answer.records {
		n += 128 + dns.Len(rr)
	}
	return uint32(min(n, 1<<30))
}

// cache is the entries by question.
type cache struct{ entries *otter.Cache[question, entry] }

func newCache(octets int) (*cache, error) {
	entries, err := otter.New(&otter.Options[question, entry]{
		MaximumWeight: uint64(octets),
		Weigher:       func(q question, e entry) uint32 { return uint32(len(q.name)) + e.octets() },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[question, entry]) time.Duration {
			return time.Until(e.Value.usable)
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("make DNS cache: %w", err)
	}
	return &cache{entries}, nil
}

// fresh is the entry that needs no asking.
func (c *cache) fresh(q question, now time.Time) (entry, bool) {
	e, ok := c.entries.GetIfPresent(q)
	return e, ok && now.Before(e.until)
}

// usable is the answer that may be served when the servers fail.
func (c *cache) usable(q question, now time.Time) (entry, bool) {
	e, ok := c.entries.GetIfPresent(q)
	return e, ok && now.Before(e.usable)
}

func (c *cache) put(q question, e entry) entry {
	c.entries.Set(q, e)
	return e
}

func (c *cache) close() { c.entries.StopAllGoroutines() }
