// Package mailbox asks whether a sender's mailbox exists. The question is a
// request on the bus; delivery answers it, which is the one service that speaks to
// mail servers, by asking the server of the address (a callout). Only addresses in
// hosted domains are asked about: to strangers' servers it would be a nuisance.
//
// Guarantees: an answer is only what the server of the address said for good: 250
// means valid, 5.1.x unknown. All else, silence included, is a doubt, and a doubt
// refuses nobody for good. Answers are remembered for an hour, unknown for five
// minutes, doubts for ten seconds.
package mailbox

import (
	"context"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/queue"
)

// Subject is where it is asked: the body is the address, and the answer its
// standing. Group is the queue group of those who answer.
const (
	Subject = "postrider.mailbox"
	Group   = "delivery"
)

// How long answers are remembered, and how many.
const (
	validFor   = time.Hour
	unknownFor = 5 * time.Minute
	doubtFor   = 10 * time.Second
	remembered = 20_000
)

// Asker asks, and remembers.
type Asker struct {
	bus   *queue.Bus
	cache *otter.Cache[string, authz.Standing]
}

// New asks over a bus.
func New(bus *queue.Bus) *Asker {
	return &Asker{bus: bus, cache: otter.Must(&otter.Options[string, authz.Standing]{
		MaximumSize: remembered,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, authz.Standing]) time.Duration {
			switch e.Value {
			case authz.StandingValid, authz.StandingPersonal:
				return validFor
			case authz.StandingUnknown:
				return unknownFor
			}
			return doubtFor
		}),
	})}
}

// Ask is the standing of an address, a doubt if nobody answers before ctx ends.
func (a *Asker) Ask(ctx context.Context, address string) authz.Standing {
	at := strings.LastIndexByte(address, '@')
	key := address[:at+1] + strings.ToLower(address[at+1:])
	if s, ok := a.cache.GetIfPresent(key); ok {
		return s
	}
	s := authz.StandingDoubt
	if m, err := a.bus.NC.RequestWithContext(ctx, Subject, []byte(key)); err == nil {
		switch said := authz.Standing(m.Data); said {
		case authz.StandingValid, authz.StandingUnknown, authz.StandingPersonal:
			s = said
		}
	}
	a.cache.Set(key, s)
	return s
}
