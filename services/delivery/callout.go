package delivery

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/smtp"
)

const (
	// calloutTimeout is for one question; ingress waits a little longer.
	calloutTimeout = 8 * time.Second
	callouts       = 32 // at a time
)

// answerCallouts tells whether mailboxes exist, until ctx ends.
func (w *worker) answerCallouts(ctx context.Context) error {
	return mailbox.Answer(ctx, w.bus, mailbox.Subject, mailbox.Group, callouts, func(ctx context.Context, address string) authz.Standing {
		ctx, cancel := context.WithTimeout(ctx, calloutTimeout)
		defer cancel()
		a, err := smtp.ParseAddress(address)
		if err != nil {
			return authz.StandingDoubt
		}
		return w.mta.callout(ctx, a)
	})
}

// callout asks the server of an address about it, as an attempt would reach it:
// by the same route, under the same demands on TLS.
func (t *transport) callout(ctx context.Context, address smtp.Address) authz.Standing {
	to := smtp.ForwardPath{Address: address}
	a := newAttempt(t, &event.Job{Destination: address.Domain}, []mail.Recipient{{Address: to}}, false)
	hop, ok := t.rules.NextHop(address.Domain)
	if !ok || hop.TLS == LevelDANE || hop.LMTP {
		return authz.StandingDoubt
	}
	a.hop = hop
	for target, err := range t.finder.targets(ctx, hop) {
		if err != nil || a.connects >= maxConnects {
			break
		}
		e := a.endpoint(target)
		s := t.pool.take(e)
		if s == nil {
			if s, err = a.connect(ctx, e); err != nil {
				continue
			}
		}
		err = s.Verify(ctx, to)
		t.pool.give(e, s)
		if found := judgeMailbox(err); found != authz.StandingDoubt {
			return found
		}
	}
	return authz.StandingDoubt
}

// judgeMailbox reads the reply to RCPT. Only one about the address says that there
// is no mailbox (RFC 3463 §3.2); a server that gives no enhanced codes says so by
// 550, 551 or 553 (RFC 5321 §4.2.3).
func judgeMailbox(err error) authz.Standing {
	var said *smtp.Error
	switch {
	case err == nil:
		return authz.StandingValid
	case !errors.As(err, &said) || !said.Reply.Permanent():
		return authz.StandingDoubt
	case said.Reply.Enhanced != "":
		if strings.HasPrefix(said.Reply.Status(), "5.1.") {
			return authz.StandingUnknown
		}
	case said.Reply.Code == 550 || said.Reply.Code == 551 || said.Reply.Code == 553:
		return authz.StandingUnknown
	}
	return authz.StandingDoubt
}
