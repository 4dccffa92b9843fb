package ingress

import (
	"context"
	"errors"
	"net/netip"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
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

// refuse answers what authorization decided, with a reference, and keeps the
// evidence.
func (s *session) refuse(stage string, v authz.Verdict) error {
	ref := mail.NewRef()
	s.in.metrics.refused(stage, v.Rule)
	s.in.evidence.add(event.Refusal{
		Ref: ref, At: time.Now().UTC(), Stage: stage, Facts: s.facts, Reply: v.Reply, Rule: v.Rule, Reason: v.Reason, Count: 1,
	})
	return reply(referred(v.Reply, ref, s.in.cfg.Relay.HelpURL))
}

// trouble answers our own trouble; the cause goes to the evidence only.
func (s *session) trouble(stage string, r smtp.Reply, cause error) error {
	s.in.metrics.refused(stage, "trouble")
	s.in.evidence.add(event.Refusal{
		Ref: mail.NewRef(), At: time.Now().UTC(), Stage: stage, Facts: s.facts, Reply: r, Rule: "trouble", Reason: cause.Error(), Count: 1,
	})
	return reply(r)
}

// referred puts the reference first, so that it survives a narrow panel, and
// the address of the explanation last.
func referred(r smtp.Reply, ref mail.Ref, helpURL string) smtp.Reply {
	r.Text = string(ref) + " " + r.Text
	if helpURL != "" {
		r.Text += " " + helpURL + "/w/" + string(ref)
	}
	return r
}

// refusedByWire gives what wire refuses a reference and keeps the evidence:
// connect and TLS failures can be explained, too.
func (in *Ingress) refusedByWire(l config.Listener, w wire.Refusal) smtp.Reply {
	ref := mail.NewRef()
	in.metrics.refused("wire", w.Kind)
	reason := ""
	if w.Err != nil {
		reason = w.Err.Error()
	}
	in.evidence.add(event.Refusal{
		Ref: ref, At: time.Now().UTC(), Stage: w.Kind, Reply: w.Reply, Rule: w.Kind, Reason: reason, Count: 1,
		Facts: authz.Facts{Listener: l.Name, Submission: l.Mode != config.ModeRelay, Address: addressOf(w.Remote), Helo: w.Helo},
	})
	if w.Reply.Permanent() {
		return referred(w.Reply, ref, "")
	}
	return w.Reply
}

// evidence publishes refusals without holding up a session. It is bounded:
// the first singles of an address and minute go out one by one, the rest are
// counted together; a queue that is full drops the oldest need to know.
type evidence struct {
	bus   *queue.Bus
	log   zerolog.Logger
	queue chan event.Refusal
}

const (
	evidenceQueue   = 4096
	evidenceSingles = 20
	evidenceMinute  = time.Minute
	evidencePeers   = 10_000 // addresses counted at once
)

func newEvidence(bus *queue.Bus, log zerolog.Logger) *evidence {
	return &evidence{bus: bus, log: log, queue: make(chan event.Refusal, evidenceQueue)}
}

// add takes a refusal, or drops it when the store is far behind: a flood must
// not become load.
func (e *evidence) add(r event.Refusal) {
	select {
	case e.queue <- r:
	default:
	}
}

// counted are the refusals of one address and kind beyond the singles.
type counted struct {
	seen int
	last event.Refusal
}

type evidenceKey struct {
	address netip.Addr
	stage   string
	rule    string
}

// run publishes until ctx ends.
func (e *evidence) run(ctx context.Context) error {
	minute := time.NewTicker(evidenceMinute)
	defer minute.Stop()
	counts := map[evidenceKey]*counted{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-minute.C:
			for _, c := range counts {
				if extra := c.seen - evidenceSingles; extra > 0 {
					c.last.Count = extra
					e.publish(ctx, c.last)
				}
			}
			clear(counts)
		case r := <-e.queue:
			key := evidenceKey{r.Facts.Address, r.Stage, r.Rule}
			c := counts[key]
			if c == nil {
				if len(counts) >= evidencePeers {
					continue
				}
				c = &counted{}
				counts[key] = c
			}
			c.seen++
			c.last = r
			if c.seen <= evidenceSingles {
				e.publish(ctx, r)
			}
		}
	}
}

func (e *evidence) publish(ctx context.Context, r event.Refusal) {
	r.Schema = event.Schema
	if r.Stage == "" {
		r.Stage = "command"
	}
	_, err := e.bus.Publish(ctx, queue.RefusedSubject(r.Stage), string(r.Ref), event.Encode(&r))
	if err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		e.log.Warn().Err(err).Str("ref", string(r.Ref)).Msg("cannot keep evidence of a refusal")
	}
}

func refusalOf(stage, rule string, facts authz.Facts, r smtp.Reply) event.Refusal {
	return event.Refusal{Ref: mail.NewRef(), At: time.Now().UTC(), Stage: stage, Facts: facts, Reply: r, Rule: rule, Count: 1}
}
