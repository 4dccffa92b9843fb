package smtptest

import (
	"github.com/postrider/postrider/shared/smtp"
)

// finish decides, stores and answers a message whose end was seen. SMTP has one
// final reply; LMTP has one for every recipient (RFC 2033 §4.2).
func (s *session) finish() error {
	d := s.delivery()
	asked := s.finals(d.MessageID())
	replies := make([]smtp.Reply, len(asked))
	dropped := false
	for i, b := range asked {
		replies[i] = s.judge(b)
		dropped = dropped || b.Drop
		if !replies[i].Positive() {
			continue
		}
		if !s.mx.options.LMTP {
			for _, r := range s.tx.recipients {
				d.Recipients = append(d.Recipients, r.Recipient)
			}
		} else {
			d.Recipients = append(d.Recipients, s.tx.recipients[i].Recipient)
		}
	}
	d.Acknowledged = !dropped
	if !s.store(d) {
		for i := range replies {
			if replies[i].Positive() {
				replies[i] = smtp.ReplyLocalError
			}
		}
	}
	defer s.reset()
	if dropped {
		return errDropped
	}
	for i, r := range replies {
		if _, err := s.give(asked[i], r); err != nil {
			return err
		}
		if err := s.answer(StageData, r); err != nil {
			return err
		}
	}
	return nil
}

// finals are what was asked for after the dot, one for each final reply.
func (s *session) finals(messageID string) []Behaviour {
	ask := func(own Behaviour, key string) Behaviour {
		if messageID == "" {
			messageID = s.tx.path.String()
		}
		return s.ask(StageData, own, key+"\x00"+messageID)
	}
	if !s.mx.options.LMTP {
		own, key := s.first(StageData)
		return []Behaviour{ask(own, key)}
	}
	var asked []Behaviour
	for _, r := range s.tx.recipients {
		asked = append(asked, ask(r.behaviour, r.String()))
	}
	return asked
}

// judge is the reply before anything is stored.
func (s *session) judge(b Behaviour) smtp.Reply {
	switch {
	case s.tx.meter.tooBig:
		return smtp.ReplyTooBig
	case s.tx.meter.err != nil:
		return smtp.ReplyLocalError
	case !b.Reply.IsZero():
		return b.Reply
	}
	return replyStored
}

// store commits the message if it has recipients left and discards it
// otherwise. It reports false when the store failed.
func (s *session) store(d *Delivery) bool {
	spool := s.tx.meter.spool
	s.tx.meter = nil // settled here, so that reset does not discard it
	if len(d.Recipients) == 0 {
		spool.Discard()
		return true
	}
	if err := spool.Commit(d); err != nil {
		return false
	}
	s.mx.tally.add(func(c *Counts) {
		c.Stored++
		c.Recipients += int64(len(d.Recipients))
		c.Octets += d.Size
		if !d.Acknowledged {
			c.Unacknowledged++
		}
	})
	return true
}
