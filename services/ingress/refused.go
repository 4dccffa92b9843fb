package ingress

import (
	"errors"
	"io"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// replyOf is smtp.Reply under the name that reads well in a callback.
type replyOf = smtp.Reply

// reply turns a Reply into the error that go-smtp writes unchanged. go-smtp
// looks for its own type without unwrapping; every error of a session goes
// through here.
func reply(r smtp.Reply) error {
	e := &gosmtp.SMTPError{Code: r.Code, EnhancedCode: gosmtp.NoEnhancedCode, Message: r.Text}
	if status := r.Status(); status != "" && r.Enhanced != "" {
		e.EnhancedCode = enhanced(status)
	}
	return e
}

func enhanced(status string) gosmtp.EnhancedCode {
	var code gosmtp.EnhancedCode
	at := 0
	for i := range len(status) {
		if status[i] == '.' {
			at++
			continue
		}
		code[at] = code[at]*10 + int(status[i]-'0')
	}
	return code
}

// refuse answers what authorization decided.
func (s *session) refuse(stage string, v authz.Verdict) error {
	return s.answer(event.Refusal{Stage: stage, Rule: v.Rule, Reason: v.Reason, Reply: v.Reply})
}

// trouble answers our own trouble; the cause goes to the evidence only.
func (s *session) trouble(stage string, r smtp.Reply, cause error) error {
	return s.answer(event.Refusal{Stage: stage, Rule: event.CauseTrouble, Reason: cause.Error(), Reply: r})
}

// answer gives a refusal its reference and circumstances, keeps it as evidence,
// and is the reply to it.
func (s *session) answer(r event.Refusal) error {
	r.Ref, r.At, r.Count = mail.NewRef(), time.Now().UTC(), 1
	if r.Facts.Listener == "" {
		r.Facts = s.facts
	}
	if r.Reply.IsZero() { // a verdict without a reply is our mistake, not the mail's
		r.Reply = smtp.ReplyLocalError
	}
	s.in.metrics.refused(r.Stage, r.Rule)
	s.in.evidence.add(r)
	return reply(r.Ref.Refused(r.Reply, s.in.cfg.Relay.Help()))
}

// refusedByWire gives what wire refuses a reference and keeps the evidence:
// connect and TLS failures can be explained, too.
func (in *Ingress) refusedByWire(l config.Listener, w wire.Refusal) smtp.Reply {
	if w.Kind != wire.KindNoMail {
		in.metrics.refused("wire", w.Kind)
	}
	if w.Kind == wire.KindHelo {
		in.metrics.ampersands.Inc()
	}
	if w.Kind == wire.KindShutdown { // nobody's fault, and everybody's at once
		return w.Reply
	}
	ref := mail.NewRef()
	reason := ""
	if w.Err != nil {
		reason = inWords(w.Err)
	}
	facts := authz.Facts{Listener: l.Name, Submission: l.Mode != config.ModeRelay, Address: addressOf(w.Remote), Helo: w.Helo}
	if w.TLS {
		facts.TLS = describeTLS(w.State)
	}
	in.evidence.add(event.Refusal{
		Ref: ref, At: time.Now().UTC(), Stage: w.Kind, Reply: w.Reply, Rule: w.Kind, Reason: reason, Count: 1, Facts: facts,
	})
	return ref.Refused(w.Reply, in.cfg.Relay.Help())
}

// protocols are the versions of TLS as its errors have them.
var protocols = strings.NewReplacer("304", "TLS 1.3", "303", "TLS 1.2", "302", "TLS 1.1", "301", "TLS 1.0", "300", "SSL 3.0")

// inWords is what ended a connection, for the owner of the client.
func inWords(err error) string {
	text := err.Error()
	if before, versions, ok := strings.Cut(text, "unsupported versions: "); ok {
		return before + "unsupported versions: " + protocols.Replace(versions)
	}
	if errors.Is(err, io.EOF) && text == io.EOF.Error() {
		return "the client closed the connection during the handshake"
	}
	return text
}
