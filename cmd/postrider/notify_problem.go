package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/notice"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

func newNotifyProblem(f *flags) *cobra.Command {
	o := &notifyOptions{}
	since := "24h"
	c := withOutput(f, answers, &cobra.Command{
		Use:   "problem DEVICE",
		Short: "Tell the contacts of a device what goes wrong with its mail",
		Long: `Tell the contacts of a device what goes wrong with its mail: how many attempts
were refused and how many messages were not delivered, with the last of them as
samples. The text is shown first; --yes sends it.

  postrider notify problem prn-3.chem.campus.test
  postrider notify problem prn-3.chem.campus.test --since 7d --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := pointInTime(since)
			if err != nil {
				return usage("--since %s: %w", since, err)
			}
			return withAsking(cmd.Context(), f, func(a *asking) error {
				d, err := findDevice(a.reg, args[0])
				if err != nil {
					return err
				}
				t, err := a.trouble(cmd.Context(), cmd.ErrOrStderr(), d, from)
				if err != nil {
					return err
				}
				if t.Refused+t.Failed == 0 {
					return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("nothing went wrong with mail of %s since %s; see: postrider explain %s", d.Name, from.Local().Format(time.DateTime), d.Name)}
				}
				o.notice.Subject, o.notice.Text = notice.ProblemSubject(d), strings.Join(notice.Problem(d, t), "\n")
				heard, err := o.audience(a.reg, []*registry.Device{d})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), visibleText(o.notice.Text))
				return o.finish(cmd, f, a, heard)
			})
		},
	})
	c.Flags().StringVar(&since, "since", since, "what went wrong since a time, a date, or an age")
	c.Flags().BoolVar(&o.yes, "yes", false, "send it")
	c.Flags().StringVar(&o.notice.ID, "id", "", "name of the notice (default: made)")
	recordFlags(c, &o.reason, &o.ticket)
	return c
}

// visibleText is text of several lines for a terminal.
func visibleText(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = visible(l)
	}
	return strings.Join(lines, "\n")
}

// trouble is what went wrong with the mail of a device since then.
func (a *asking) trouble(ctx context.Context, progress io.Writer, d *registry.Device, since time.Time) (*notice.Trouble, error) {
	t := &notice.Trouble{Since: since}
	own := func(addr netip.Addr, identity string) bool { return notice.Of(a.reg, addr, identity) == d.Name }
	matters := func(data []byte) bool { return true }
	err := eachRefusal(ctx, a.bus, progress, matters, func(r *event.Refusal) error {
		if r.At.Before(since) {
			return errFound
		}
		if own(r.Facts.Address, r.Facts.Identity) {
			t.Refused += max(r.Count, 1)
			if len(t.Samples) < notice.MaxSamples {
				t.Samples = append(t.Samples, notice.Refused(r))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	failed, samples, err := notice.FailedSince(ctx, books.Client(a.bus).Export, d.Name, since)
	if err != nil {
		return nil, bookError(err)
	}
	t.Failed, t.Samples = failed, append(t.Samples, samples...)
	return t, nil
}
