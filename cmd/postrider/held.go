package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// heldEntry shows a held message as a job that nobody works on.
func heldEntry(h queue.HeldEntry) queue.JobEntry {
	m := &h.Message
	reason := h.Rule
	if h.Reason != "" {
		reason += ": " + h.Reason
	}
	if d := h.Decision; d != nil {
		reason = fmt.Sprintf("%s decided by %s; %s", d.Verb, d.Actor, reason)
	}
	j := &event.Job{
		ID: string(m.QueueID), QueueID: m.QueueID, AcceptedAt: m.AcceptedAt, Class: m.Class, Env: m.Env, Content: m.Content, Prepend: m.Prepend,
		MessageID: m.MessageID, SubmissionID: m.SubmissionID, Device: m.Device, Owner: m.Owner, Report: m.ReportOf, LastReply: reason,
	}
	e := queue.JobEntry{Job: j, Subject: queue.HeldSubject(m.QueueID, h.Part()), Seq: h.Seq, Stored: h.At}
	j.Destination = strings.Join(destinationsOf(e), " ")
	if h.Job != nil {
		j.ID, j.Destination, j.Attempt, j.Drive = h.Job.ID, h.Job.Destination, h.Job.Attempt, h.Job.Drive
	}
	return e
}

// isHeld reports an entry that is held.
func isHeld(e queue.JobEntry) bool { return strings.HasPrefix(e.Subject, "held.") }

// clock tells about when what a limit holds has its turn: the first of a device
// when the hour ends in which it was held, or now, and each next one after the
// pace of the one before.
type clock struct {
	now time.Time
	due map[string]time.Time
}

// turn is when that is; the zero time for what waits for a person. It is asked
// in the order of HELD.
func (c *clock) turn(h *queue.HeldEntry) time.Time {
	if h.Pace == 0 || h.Decision != nil {
		return time.Time{}
	}
	at := c.due[h.Message.Device]
	for _, least := range []time.Time{c.now, h.At.Truncate(time.Hour).Add(time.Hour)} {
		if at.Before(least) {
			at = least
		}
	}
	c.due[h.Message.Device] = at.Add(h.Pace)
	return at
}

// destinationsOf are the destinations of a job, or the domains of the recipients
// of a held message.
func destinationsOf(e queue.JobEntry) []string {
	if !isHeld(e) {
		return []string{e.Job.Destination}
	}
	var out []string
	for i := range e.Job.Env.Recipients {
		if d := e.Job.Env.Recipients[i].Address.Domain; !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// verdict is a command that decides about held messages.
type verdict struct {
	verb              event.Verb
	use, short, about string
	// done is what it did, planned that it needs a plan which was read.
	done    string
	planned bool
}

var releasing = verdict{event.Release, "release", "Let held messages go", "Have held messages signed and delivered as if they had never been held. Jobs that\nwere held in the queue are tried at once.", "are released", false}

var bouncing = verdict{event.Bounce, "bounce", "Send held messages back", `Have the senders of held messages told that these are not accepted. The reason is
for the ledger; the sender does not see it. Without --confirm nothing is done but
to show the plan.`, "go back to their senders", true}

var dropping = verdict{event.Drop, "drop", "Remove held messages", `Remove held messages. They are removed ten minutes later; until then --undo takes
that back. Without --confirm nothing is done but to show the plan.`, "are removed in ten minutes; until then: postrider queue drop --undo", true}

// newVerdict is the command of a verdict.
func newVerdict(f *flags, v verdict) *cobra.Command {
	var all, dry, undo bool
	var reason, confirm string
	c := &cobra.Command{
		Use:   v.use + " SELECTOR",
		Short: v.short,
		Long:  v.about + "\nIds may come on stdin with \"-\".\n\n  postrider queue " + v.use + " state:held reason:virus --reason \"ticket 4711\"\n\n" + selectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withChosen(cmd, f, args, all, func(bus *queue.Bus, s *selector) error {
				if undo {
					return decideAll(cmd, bus, s, verdict{verb: event.Undo, done: "stay held"}, dry, "", reason)
				}
				return decideAll(cmd, bus, s, v, dry, confirm, reason)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every held message")
	c.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	if v.planned {
		c.Flags().StringVar(&confirm, "confirm", "", "carry out the plan with this `id`")
	} else {
		c.Flags().BoolVar(&dry, "dry-run", false, "show what would be done, change nothing")
	}
	if v.verb == event.Drop {
		c.Flags().BoolVar(&undo, "undo", false, "take back what was dropped less than ten minutes ago")
	}
	return c
}

// decideAll decides about the chosen messages, or shows which those are.
func decideAll(cmd *cobra.Command, bus *queue.Bus, s *selector, v verdict, dry bool, confirm, reason string) error {
	chosen, err := chooseHeld(cmd.Context(), bus, s, v.verb)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no held message matches; see: postrider queue ls state:held")}
	}
	plan := heldPlan(v.verb, chosen)
	switch {
	case dry || v.planned && confirm == "":
		return showPlan(cmd, v, plan, chosen)
	case v.planned && confirm != plan:
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("the plan is %s now, and not %s: read it again without --confirm", plan, confirm)}
	}
	done, late, progress := 0, 0, time.Now()
	for i, e := range chosen {
		err := bus.Decide(cmd.Context(), event.Decision{QueueID: e.Job.QueueID, Part: queue.PartOf(e.Subject), Verb: v.verb, Actor: actor(), Reason: reason})
		switch {
		case errors.Is(err, queue.ErrDecided), errors.Is(err, queue.ErrNotHeld):
			late++
		case err != nil && done == 0:
			return err
		case err != nil:
			return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("%d of %d %s, then: %w", done, len(chosen), v.done, err)}
		default:
			done++
		}
		if time.Since(progress) > time.Second {
			progress = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d\n", i+1, len(chosen))
		}
	}
	return tellDecided(cmd.OutOrStdout(), v, done, late)
}

func tellDecided(out io.Writer, v verdict, done, late int) error {
	fmt.Fprintf(out, "%d messages %s\n", done, v.done)
	if late == 0 {
		return nil
	}
	code := service.ExitPartly
	if done == 0 {
		code = service.ExitConflict
	}
	return &service.Exit{Code: code, Err: fmt.Errorf("about %d somebody had decided already; see: postrider trace QUEUE-ID", late)}
}

// chooseHeld lists the held messages that a selector chooses, those about which
// the verb can still be decided.
func chooseHeld(ctx context.Context, bus *queue.Bus, s *selector, verb event.Verb) ([]queue.JobEntry, error) {
	now := time.Now()
	var chosen []queue.JobEntry
	err := bus.ListHeld(ctx, func(h queue.HeldEntry, err error) error {
		e := heldEntry(h)
		open := (&event.Decision{Verb: verb}).Replaces(h.Decision)
		if err == nil && open && s.matches(e, now) {
			chosen = append(chosen, e)
		}
		return nil
	})
	slices.SortFunc(chosen, func(a, b queue.JobEntry) int { return cmp.Compare(a.Subject, b.Subject) })
	return chosen, err
}

// heldPlan stands for what would be done to whom.
func heldPlan(verb event.Verb, chosen []queue.JobEntry) string {
	digest := sha256.New()
	for _, e := range chosen {
		fmt.Fprintln(digest, verb, e.Subject, e.Seq)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(digest.Sum(nil)))[:10]
}

func showPlan(cmd *cobra.Command, v verdict, plan string, chosen []queue.JobEntry) error {
	recipients := 0
	for _, e := range chosen {
		recipients += len(e.Job.Env.Recipients)
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s  %s\n", e.Job.ID, visible(sender(e.Job.Env.ReversePath.String())), visible(several(recipientsOf(e))), visible(e.Job.LastReply))
		if err != nil {
			return err
		}
	}
	out := cmd.ErrOrStderr()
	fmt.Fprintf(out, "%d messages, %d recipients; nothing was changed\n", len(chosen), recipients)
	if v.planned {
		fmt.Fprintf(out, "To do it, the same with: --confirm %s\n", plan)
	}
	return nil
}
