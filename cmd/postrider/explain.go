package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

func newExplain(f *flags) *cobra.Command {
	last := 20
	c := withOutput(f, answers, &cobra.Command{
		Use:   `explain REF|ADDRESS|DEVICE|"TEXT"`,
		Short: "Why was it refused, what to do, who can, and would it work now",
		Long: `Explain a refusal by its reference, or whatever text a person has of it: the
reply at a panel, a bounce; "-" reads it from stdin. A reference that was
misread is found where its check digit allows. For a device or the address of a
client, show what is registered, what would be answered now, and the last
attempts, refused and accepted, failures of connection and TLS included.

  postrider explain R7K2-9QF3
  postrider explain "550 5.7.1 R7K2-9QF3 Not registered: 10.2.3.4."
  postrider explain 10.2.3.4
  postrider explain prn-3.chem.campus.test`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, " ")
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPasted))
				if err != nil {
					return err
				}
				text = string(b)
			}
			return withAsking(cmd.Context(), f, func(a *asking) error {
				e, err := a.explain(cmd.Context(), cmd.ErrOrStderr(), strings.TrimSpace(text), last)
				if err != nil {
					return err
				}
				if f.output == "json" {
					return printJSON(cmd.OutOrStdout(), e)
				}
				return e.print(cmd.OutOrStdout())
			})
		},
	})
	c.Flags().IntVar(&last, "last", last, "how many attempts to show")
	return c
}

// maxPasted is how much text is read, in octets.
const maxPasted = 1 << 20

// explanation is the answer to one question: one of a refusal, a message, and a
// client.
type explanation struct {
	// Note says what the text led to, where that is not plain.
	Note string `json:"note,omitempty"`
	*refused
	*client
	// QueueID is of a message that was accepted.
	QueueID mail.QueueID `json:"queue_id,omitempty"`
}

// refused is a refusal explained.
type refused struct {
	Refusal *event.Refusal `json:"refusal"`
	// Then is the refusal as it was decided, Now how the same would be answered
	// under the present registry and rules; nil where no decision would help.
	Then *opinion `json:"then"`
	Now  *opinion `json:"now"`
	// Works says in words whether it would work now.
	Works string `json:"works"`
}

// explain finds out what a text is about: a reference in it, else an address,
// else a device, else a message.
func (a *asking) explain(ctx context.Context, progress io.Writer, text string, last int) (*explanation, error) {
	if addr, err := parseAddr(text); err == nil {
		return a.explainAddress(ctx, progress, addr, last)
	}
	if d, ok := a.reg.Device(deviceName(text)); ok {
		return a.explainDevice(ctx, progress, d, last)
	}
	note := ""
	if refs := mail.FindRefs(text); len(refs) > 0 {
		r, err := findRefusal(ctx, a.bus, progress, refs...)
		if err == nil {
			e := &explanation{refused: a.explainRefusal(ctx, r)}
			if !strings.Contains(strings.ToUpper(text), string(r.Ref)) {
				e.Note = "read as " + string(r.Ref)
			}
			return e, nil
		}
		if service.ExitCode(err) != service.ExitNotFound || len(strings.Fields(text)) == 1 {
			return nil, err
		}
		note = err.Error()
	}
	return a.explainWords(ctx, progress, text, note, last)
}

var queueID = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{16}\b`)

// explainWords looks at a text without a reference that is known.
func (a *asking) explainWords(ctx context.Context, progress io.Writer, text, note string, last int) (*explanation, error) {
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n<>()[]\"',;", r) })
	for _, id := range queueID.FindAllString(text, -1) {
		if id, err := mail.ParseQueueID(id); err == nil {
			if _, err := books.Client(a.bus).Trace(ctx, string(id)); err == nil {
				return &explanation{QueueID: id, Note: "it was accepted; what became of it: postrider trace " + string(id)}, nil
			}
		}
	}
	for _, w := range words {
		if addr, err := netip.ParseAddr(strings.TrimRight(w, ".:")); err == nil {
			e, err := a.explainAddress(ctx, progress, addr.Unmap().WithZone(""), last)
			if err == nil {
				e.Note = strings.TrimPrefix(note+"; this is about "+addr.String(), "; ")
			}
			return e, err
		}
	}
	for _, w := range words {
		if d, ok := a.reg.Device(deviceName(strings.TrimRight(w, ".:"))); ok {
			e, err := a.explainDevice(ctx, progress, d, last)
			if err == nil {
				e.Note = strings.TrimPrefix(note+"; this is about "+d.Name, "; ")
			}
			return e, err
		}
	}
	if note == "" {
		note = "this is no reference, no address of a client and no device"
		if near := a.reg.NearestName(text); len(near) > 0 {
			note += "; did you mean " + near[0].Device.Name + "?"
		}
		note += "\nSee: postrider device ls, and for a message: postrider trace"
	}
	return nil, &service.Exit{Code: service.ExitNotFound, Err: errors.New(note)}
}

// explainRefusal says what to do about a refusal, and whether that is still
// necessary.
func (a *asking) explainRefusal(ctx context.Context, r *event.Refusal) *refused {
	cause, _ := r.Cause()
	then := &opinion{
		Outcome: authz.Refuse, Stage: r.Stage, Rule: r.Rule, About: cause.About, Switch: cause.Switch, Reason: r.Reason,
	}
	if r.Reply.Transient() {
		then.Outcome = authz.Later
	}
	if !r.Reply.IsZero() {
		then.Reply = r.Ref.Refused(r.Reply, a.cfg.Relay.Help()).String()
	}
	f := r.Facts
	f.At = time.Now().UTC()
	if d, ok := a.deviceOf(&f); ok {
		then.Device, then.Owner = d.Name, d.Owner
	}
	e := &refused{Refusal: r, Then: then}
	if !r.Decidable() {
		a.advise(then, &f)
		e.Works = "another attempt will tell: it was not a matter of who may send"
		return e
	}
	e.Now = a.decideNow(ctx, &f, r)
	switch {
	case e.Now.Rule == r.Rule && !e.Now.passes(): // the advice is of today's registry
		then.Fix, then.Commands, then.Nearest, then.Who = e.Now.Fix, e.Now.Commands, e.Now.Nearest, e.Now.Who
		e.Works = "no: refused by " + e.Now.Rule + " again"
	case e.Now.Outcome == authz.Admit:
		a.settled(then, &f)
		e.Works = "yes: admitted by " + e.Now.Rule + ", " + e.Now.Reason
	case e.Now.Outcome == authz.Hold:
		a.settled(then, &f)
		e.Works = "yes, and held by " + e.Now.Rule + ": " + e.Now.Reason
	default:
		a.advise(then, &f)
		e.Works = "no: " + reasonOf(e.Now.Rule, e.Now.About, e.Now.Reason)
	}
	return e
}

// settled is the advice on a refusal that would be none now: what an operator had
// to do was done, and doing it again would do harm.
func (a *asking) settled(then *opinion, f *authz.Facts) {
	a.advise(then, f)
	then.Commands, then.Fix = nil, append(then.Fix, "that is done, nothing is left to do: let it send again")
}

// decideNow decides the recorded facts again. What the DNS said is asked anew
// where the refusal hung on it.
func (a *asking) decideNow(ctx context.Context, f *authz.Facts, r *event.Refusal) *opinion {
	stage := r.Stage
	if f.Recipient == nil {
		stage = "mail"
	}
	now := a.decide(f, stage)
	if now.Rule == "fcrdns" || r.Rule == "fcrdns" {
		if err := a.lookUp(ctx, f); err == nil {
			now = a.decide(f, stage)
		}
	}
	return now
}

// deviceOf is the device that facts belong to, in whatever state.
func (a *asking) deviceOf(f *authz.Facts) (*registry.Device, bool) {
	if d, ok := a.reg.ByCredential(f.Identity); ok && f.Identity != "" {
		return d, true
	}
	if !f.Address.IsValid() {
		return nil, false
	}
	return a.reg.ByAddress(f.Address)
}

func (e *explanation) print(out io.Writer) error {
	w := &strings.Builder{}
	if e.Note != "" {
		fmt.Fprintf(w, "%s\n", visible(e.Note))
	}
	if e.refused != nil {
		e.refused.write(w)
	}
	if e.client != nil {
		e.client.write(w)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func (e *refused) write(w io.Writer) {
	r := *e.Refusal
	writeRefusal(w, &r)
	line(w, "wants", e.Then.About)
	line(w, "switch", e.Then.Switch)
	lines(w, "nearest", e.Then.Nearest)
	e.Then.writeAdvice(w)
	line(w, "now", e.Works)
	if e.Now != nil {
		lines(w, "observed", prefixed(e.Now.Observed, "would stop it, and only observes: "))
		if !e.Now.passes() && e.Now.Rule != r.Rule {
			e.Now.writeAdvice(w)
		}
	}
}
