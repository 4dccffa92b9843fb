package ingress

import (
	"context"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/budget"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// The names of the limits per hour, as facts have them.
const (
	overMessages   = "messages_per_hour"
	overRecipients = "recipients_per_hour"
)

// taken is what a transaction has of the hourly limits of its sender. It is
// given back unless the message is stored.
type taken struct {
	tokens  []budget.Token
	message bool // the message was counted
	slowed  bool // its sender was made to wait
}

// takeTimeout bounds the wait for the bucket of budgets.
const takeTimeout = 2 * time.Second

// charge counts one more recipient, who is admitted so far, and the message
// with the first of them. It names the limits that the sender is over.
func (s *session) charge(reg *registry.Snapshot, to smtp.ForwardPath) (over []string, err error) {
	key, limits := s.account(reg, to)
	if limits.MessagesPerHour > 0 && !s.taken.message {
		if s.taken.message, err = s.take(key+"/messages", limits.MessagesPerHour); err != nil {
			return nil, err
		}
		if !s.taken.message {
			over = append(over, overMessages)
		}
	}
	if limits.RecipientsPerHour > 0 {
		ok, err := s.take(key+"/recipients", limits.RecipientsPerHour)
		if err != nil {
			return nil, err
		}
		if !ok {
			over = append(over, overRecipients)
		}
	}
	return over, nil
}

// account is who is charged for a recipient, and with what limits. Mail of a
// device for the hosted domains is spared; hosts that are not registered can
// send no other.
func (s *session) account(reg *registry.Snapshot, to smtp.ForwardPath) (key string, limits registry.Limits) {
	d := authz.Sender(s.in.rules, reg, &s.facts)
	switch {
	case s.in.rules.Sandbox, d != nil && reg.Hosted(to.Domain):
		return "", limits
	case d != nil:
		return "device/" + d.Name, d.Limits
	}
	u := s.in.cfg.Limits.Unregistered
	limits.MessagesPerHour, limits.RecipientsPerHour = u.MessagesPerHour, u.RecipientsPerHour
	if s.facts.Identity != "" {
		return "identity/" + s.facts.Identity, limits
	}
	return "host/" + tallied(s.facts.Address).String(), limits
}

func (s *session) take(key string, limit int) (bool, error) {
	ctx, cancel := context.WithTimeout(s.in.ctx, takeTimeout)
	defer cancel()
	token, ok, err := s.in.budgets.Take(ctx, key, limit, 1)
	if ok {
		s.taken.tokens = append(s.taken.tokens, token)
	}
	return ok, err
}

// giveBack returns what the transaction took.
func (s *session) giveBack() {
	for _, t := range s.taken.tokens {
		s.in.budgets.Give(t)
	}
	s.taken.tokens = nil
}

// within charges the sender, and decides again where it is over a limit: a
// device is slowed and its message held, others are told to come again.
func (s *session) within(reg *registry.Snapshot, to smtp.ForwardPath) error {
	if len(s.facts.Over) > 0 { // the message is held already
		return nil
	}
	over, err := s.charge(reg, to)
	if err != nil {
		return s.trouble("rcpt", smtp.ReplyStoreDown, err)
	}
	if len(over) == 0 {
		return nil
	}
	s.facts.Over = over
	v := s.decide(reg)
	if !v.Admitted() { // else the rule only observes
		s.slow()
	}
	if !v.Passes() {
		err := s.refuse("rcpt", v)
		s.facts.Over = nil // the recipients before are not concerned
		return err
	}
	s.giveBack() // what is held is not sent
	return nil
}

// Pauses for a sender over its limits: one for each of its messages in a
// session, each longer than the one before.
const (
	pauseStep = time.Second
	pauseMost = 5 * time.Second
)

// slow puts off the reply, once for each message.
func (s *session) slow() {
	if s.taken.slowed {
		return
	}
	s.taken.slowed = true
	s.pause = min(s.pause+pauseStep, pauseMost)
	s.in.metrics.slowed.Inc()
	timer := time.NewTimer(s.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.in.ctx.Done():
	}
}
