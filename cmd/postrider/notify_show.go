package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newNotifyList(f *flags) *cobra.Command {
	columns := []string{"notice", "subject", "effective", "by", "asked", "contacts", "state"}
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls",
		Short: "List notices, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				notices := snapshot.Entries().Notices
				slices.SortStableFunc(notices, func(a, b *registry.Notice) int { return b.Made.Compare(a.Made) })
				return list(cmd, f, columns, notices, func(n *registry.Notice) []string {
					state := "sent"
					if n.Stored.IsZero() {
						state = "being sent"
					}
					return []string{n.ID, n.Subject, dash(n.Effective), n.Author, n.Made.Local().Format(time.DateTime), strconv.Itoa(len(n.To)), state}
				})
			})
		},
	})
}

// shownNotice is a notice with what became of it.
type shownNotice struct {
	*registry.Notice
	To        []heard `json:"to"`
	Delivered int     `json:"delivered"`
}

// heard is what became of the message to one contact.
type heard struct {
	registry.Addressee
	// State is delivered, deferred, queued, a terminal state of the books, or
	// "not sent".
	State     string       `json:"state"`
	QueueID   mail.QueueID `json:"queue_id,omitempty"`
	RemoteMTA string       `json:"remote_mta,omitempty"`
	// Reply is what that said last.
	Reply string     `json:"reply,omitempty"`
	At    *time.Time `json:"settled_at,omitempty"`
}

const (
	stateNotSent  = "not sent"
	stateDeferred = "deferred"
)

func newNotifyShow(f *flags) *cobra.Command {
	return withOutput(f, answers, &cobra.Command{
		Use:   "show ID",
		Short: "Who got a notice: the proof of delivery for each contact",
		Long:  "Show a notice, and what the books say of the message to each contact: delivered\nwith the reply of its server, deferred, failed, or not sent yet. Exits 10 unless\nall are delivered.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAsking(cmd.Context(), f, func(a *asking) error {
				n, ok := a.reg.Notice(args[0])
				if !ok {
					return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("there is no notice %s; see: postrider notify ls", args[0])}
				}
				shown, err := proof(cmd.Context(), books.Client(a.bus), n)
				if err != nil {
					return bookError(err)
				}
				if f.output == "json" {
					err = printJSON(cmd.OutOrStdout(), shown)
				} else {
					err = shown.print(cmd)
				}
				if err == nil && shown.Delivered < len(shown.To) {
					return no(service.ExitNo, "not delivered to all")
				}
				return err
			})
		},
	})
}

// proof is what the books say of the messages of a notice.
func proof(ctx context.Context, b *books.Books, n *registry.Notice) (*shownNotice, error) {
	rows := map[mail.QueueID]books.Row{}
	err := b.Export(ctx, books.Filter{Submission: n.ID}, func(r books.Row) error {
		rows[r.QueueID] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	shown := &shownNotice{Notice: n}
	for _, a := range n.To {
		h := heard{Addressee: a, State: stateNotSent}
		if r, ok := rows[n.MessageID(a.Contact)]; ok {
			h.State, h.QueueID, h.RemoteMTA, h.Reply, h.At = r.State, r.QueueID, r.RemoteMTA, r.Diagnostic, r.SettledAt
			if r.State == books.StateQueued && r.Attempts > 0 {
				h.State = stateDeferred
			}
		} else if !n.Stored.IsZero() {
			h.State = books.StateQueued // it is in MAIL, and not in the books yet
		}
		if h.State == string(event.Delivered) {
			shown.Delivered++
		}
		shown.To = append(shown.To, h)
	}
	return shown, nil
}

func (s *shownNotice) print(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s  %s\n", visible(s.ID), visible(s.Subject))
	if s.Effective != "" {
		fmt.Fprintf(out, "effective %s\n", s.Effective)
	}
	fmt.Fprintf(out, "asked for by %s, %s; %d of %d delivered\n\n", visible(s.Author), s.Made.Local().Format(time.DateTime), s.Delivered, len(s.To))
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CONTACT\tSTATE\tSERVER\tREPLY\tTIME\tQUEUE ID\tDEVICES")
	for _, h := range s.To {
		sign, at := "x ", "-"
		switch h.State {
		case string(event.Delivered):
			sign = "+ "
		case books.StateQueued, stateDeferred, stateNotSent:
			sign = "~ "
		}
		if h.At != nil {
			at = h.At.Local().Format(time.DateTime)
		}
		cells := []string{h.Contact, sign + h.State, dash(h.RemoteMTA), dash(h.Reply), at, dash(string(h.QueueID)), devicesOf(h.Addressee)}
		for i, c := range cells {
			cells[i] = visible(c)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}
