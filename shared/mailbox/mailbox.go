// Package mailbox asks whether a sender's mailbox exists, and whose it is. The
// question is a request on the bus. Policy answers it from a directory, where there
// is one; delivery, which is the one service that speaks to mail servers, by asking
// the server of the address (a callout). Only addresses in hosted domains are asked
// about: to strangers' servers it would be a nuisance.
//
// Guarantees: of several who are asked, the first that knows the mailbox is
// believed, else the last. An answer of a server is only what it said for good: 250
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

// Subject is where a callout is asked for, and Directory a look into the directory:
// the body is the address, and the answer its standing. Group is the queue group of
// those who make callouts.
const (
	Subject   = "postrider.mailbox"
	Directory = "postrider.directory"
	Group     = "delivery"
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
	bus      *queue.Bus
	subjects []string
	cache    *otter.Cache[string, authz.Standing]
}

// New asks over a bus, on these subjects in turn.
func New(bus *queue.Bus, subjects ...string) *Asker {
	return &Asker{bus: bus, subjects: subjects, cache: otter.Must(&otter.Options[string, authz.Standing]{
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
	for _, subject := range a.subjects {
		if s = a.question(ctx, subject, key); s == authz.StandingValid || s == authz.StandingPersonal {
			break
		}
	}
	a.cache.Set(key, s)
	return s
}

func (a *Asker) question(ctx context.Context, subject, address string) authz.Standing {
	m, err := a.bus.NC.RequestWithContext(ctx, subject, []byte(address))
	if err != nil {
		return authz.StandingDoubt
	}
	switch said := authz.Standing(m.Data); said {
	case authz.StandingValid, authz.StandingUnknown, authz.StandingPersonal:
		return said
	}
	return authz.StandingDoubt
}
