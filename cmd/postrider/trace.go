package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/service"
)

func newTrace(f *flags) *cobra.Command {
	follow := false
	c := withOutput(f, answers, &cobra.Command{
		Use:   "trace REF|QUEUE-ID|MESSAGE-ID|ADDRESS",
		Short: "Show what became of a message, step by step",
		Long: `Show what became of a message: who sent it and why it was let in, the
signatures, every attempt with what the remote server said, and where it is now.
An address lists the messages from and to it, the name of a device or the IP
address of a client those that it sent. The reference of a refusal shows what
was refused, and why; postrider explain also says what to do.

  postrider trace R7K2-9QF3
  postrider trace 01K3ZQ7M2N8RT4XW
  postrider trace "<20261121.1@prn-3.campus.test>"
  postrider trace anna@example.org
  postrider trace 01K3ZQ7M2N8RT4XW --follow`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			if ref, err := mail.ParseRef(args[0]); err == nil {
				return traceRefusal(cmd, bus, ref, f.output)
			}
			client := books.Client(bus)
			text := messageOf(args[0])
			t, err := client.Trace(cmd.Context(), text)
			if err != nil {
				return bookError(err)
			}
			if follow {
				live := cmd.OutOrStdout()
				if f.output == "json" {
					live = io.Discard // one value, when all is settled
				}
				t, err = followTrace(cmd.Context(), client, t, text, live)
				if err != nil || f.output == "table" {
					return err
				}
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), t)
			}
			return printTrace(cmd.OutOrStdout(), t)
		},
	})
	c.Flags().BoolVar(&follow, "follow", false, "go on until every recipient is settled")
	return c
}

// messageOf is the queue id of a job id ("...-0"), and every other text itself.
func messageOf(text string) string {
	id, number, ok := strings.Cut(text, "-")
	if _, err := strconv.Atoi(number); !ok || err != nil {
		return text
	}
	if _, err := mail.ParseQueueID(id); err != nil {
		return text
	}
	return id
}

// bookError gives what the ledger answers its exit code.
func bookError(err error) error {
	switch {
	case errors.Is(err, books.ErrNotFound):
		return &service.Exit{Code: service.ExitNotFound, Err: err}
	case errors.Is(err, books.ErrUnreachable):
		return &service.Exit{Code: service.ExitUnreachable, Err: fmt.Errorf("%w\nIs the ledger service running? See: postrider status", err)}
	case errors.Is(err, books.ErrQuestion):
		return &service.Exit{Code: service.ExitUsage, Err: err}
	}
	return err
}

// followTrace prints new records as they come until nothing is queued, and
// returns what the books say then.
func followTrace(ctx context.Context, client *books.Books, t *books.Trace, text string, out io.Writer) (*books.Trace, error) {
	if len(t.Messages) != 1 {
		return nil, usage("%s matches %d messages; follow one by its queue id", text, len(t.Messages))
	}
	text = string(t.Messages[0].QueueID)
	if err := printTrace(out, t); err != nil {
		return nil, err
	}
	seen := lastSeq(t)
	for t.Messages[0].States[books.StateQueued] > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
		now, err := client.Trace(ctx, text)
		if errors.Is(err, books.ErrNotFound) {
			continue // between MAIL, where it was found, and the index
		}
		if err != nil {
			return nil, bookError(err)
		}
		t = now
		for _, r := range t.Records {
			if r.Seq > seen {
				if _, err := io.WriteString(out, describe(r)); err != nil {
					return nil, err
				}
			}
		}
		seen = lastSeq(t)
	}
	return t, nil
}

func lastSeq(t *books.Trace) uint64 {
	if len(t.Records) == 0 {
		return 0
	}
	return t.Records[len(t.Records)-1].Seq
}

func printTrace(out io.Writer, t *books.Trace) error {
	w := &strings.Builder{}
	for _, m := range t.Messages {
		var states []string
		for _, s := range books.States {
			if n := m.States[s]; n > 0 {
				states = append(states, fmt.Sprintf("%d %s", n, s))
			}
		}
		fmt.Fprintf(w, "%s  from %s  %s  %s\n", m.QueueID, visible(sender(m.Sender)), size(m.Size), strings.Join(states, ", "))
		if m.MessageID != "" {
			fmt.Fprintf(w, "  Message-ID %s\n", visible(m.MessageID))
		}
		if m.Device != "" {
			fmt.Fprintf(w, "  device %s, owner %s\n", m.Device, m.Owner)
		}
		if m.ReportOf != "" {
			fmt.Fprintf(w, "  a report about %s\n", m.ReportOf)
		}
	}
	if t.More {
		fmt.Fprintln(w, "There are older ones.")
	}
	if t.Behind > 0 {
		fmt.Fprintf(w, "The ledger's index is %d records behind: the last steps may be missing.\n", t.Behind)
	}
	if len(t.Records) > 0 {
		fmt.Fprintln(w)
	}
	for _, r := range t.Records {
		w.WriteString(describe(r))
	}
	if len(t.Recipients) > 0 {
		fmt.Fprintln(w)
	}
	for _, r := range t.Recipients {
		fmt.Fprintln(w, visible(fmt.Sprintf("%s  %s%s", r.Recipient, symbol(r.State), position(r))))
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func sender(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}

// symbol shows a state by word and sign, never by colour alone.
func symbol(state string) string {
	switch state {
	case books.StateQueued:
		return "~ queued"
	case string(event.Delivered):
		return "+ delivered"
	}
	return "x " + state
}

func position(r books.Recipient) string {
	p := r.Position
	if p == nil {
		return ""
	}
	switch p.Place {
	case books.PlaceMail:
		return ", waits for policy"
	case books.PlaceHeld:
		return heldPosition(p)
	case books.PlaceAdmitted:
		return ", waits for the signer"
	case books.PlaceReady:
		return fmt.Sprintf(", ready for attempt %d", p.Attempt+1)
	case books.PlaceLater:
		return fmt.Sprintf(", attempt %d at %s: %s", p.Attempt+1, p.Next.Local().Format(time.DateTime), p.LastReply)
	case books.PlaceReport:
		return ", its report is being written"
	}
	return ", in no stream"
}

// heldPosition says why a message is held, and what was decided about it.
func heldPosition(p *books.Position) string {
	text := ", held by rule " + p.Rule
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	if d := p.Decision; d != nil {
		text += fmt.Sprintf("; %s decided by %s", d.Verb, d.Actor)
	}
	return text
}

// describe is one record as lines of a timeline.
func describe(r books.Record) string {
	w := &strings.Builder{}
	rec := r.Record
	what := string(rec.Outcome)
	switch rec.Outcome {
	case event.Entered:
		if m := rec.Message; m != nil {
			f := m.Facts
			how := "in clear"
			if f.TLS != "" {
				how = "with " + f.TLS
			}
			from := "from " + f.Address.String()
			if f.Name != "" {
				from += " (" + f.Name + ")"
			}
			if f.Identity != "" {
				from += " as " + f.Identity
			}
			if f.Report {
				from, how = "from the bounce service", ""
			}
			what = fmt.Sprintf("accepted %s %s, HELO %s; %s by rule %s", from, how, mail.Printable(f.Helo, 128), m.Verdict.Outcome, m.Verdict.Rule)
			for _, q := range m.Quirks {
				what += "; " + q.String()
			}
		}
	case event.Signed:
		what = "signed " + strings.Join(rec.Signatures, ", ")
	case event.Delayed:
		what = fmt.Sprintf("delayed after attempt %d, next at %s", rec.Attempt, rec.Next.Local().Format(time.DateTime))
	case event.Bounced, event.Expired:
		if rec.Report != "" {
			what += ", report " + string(rec.Report)
		}
	}
	if rec.Reason != "" {
		what += " (" + rec.Reason + ")"
	}
	if rec.Actor != "" {
		what += " by " + rec.Actor
	}
	fmt.Fprintf(w, "%s  %-8s %s\n", rec.At.Local().Format("2006-01-02 15:04:05.000"), rec.Stage, visible(what))
	for _, rcpt := range rec.Recipients {
		line := rcpt.Address.String()
		if rcpt.RemoteMTA != "" {
			line += "  " + rcpt.RemoteMTA
		}
		if rcpt.TLS != "" {
			line += " " + rcpt.TLS
		}
		if !rcpt.Reply.IsZero() {
			line += "  " + rcpt.Reply.String()
		}
		if rcpt.PossibleDuplicate {
			line += "  possible duplicate"
		}
		fmt.Fprintf(w, "%25s%s\n", "", visible(line))
	}
	return w.String()
}
