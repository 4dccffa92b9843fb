package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// errFound ends a search.
var errFound = errors.New("found")

// traceRefusal shows what a reference stands for.
func traceRefusal(cmd *cobra.Command, bus *queue.Bus, ref mail.Ref, form string) error {
	r, err := findRefusal(cmd.Context(), bus, ref)
	if err != nil {
		return err
	}
	if form == "json" {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return printRefusal(cmd.OutOrStdout(), r)
}

// findRefusal looks a reference up in the evidence of refusals, which is
// bounded: an old or crowded-out reference is not found.
func findRefusal(ctx context.Context, bus *queue.Bus, ref mail.Ref) (*event.Refusal, error) {
	var found *event.Refusal
	err := bus.List(ctx, queue.StreamRefused, "", 0, func(m *jetstream.RawStreamMsg) error {
		if !strings.Contains(string(m.Data), string(ref)) {
			return nil
		}
		r, err := event.Decode[event.Refusal](m.Data)
		if err != nil || r.Ref != ref {
			return nil //nolint:nilerr // evidence that cannot be read is not the one asked for
		}
		found = r
		return errFound
	})
	if found != nil {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no refusal has the reference %s: evidence is kept for 30 days, and of a flood only the first of each address and minute", ref)}
}

// printRefusal says what was refused, to whom, and why.
func printRefusal(out io.Writer, r *event.Refusal) error {
	w := &strings.Builder{}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-10s %s\n", name, visible(value))
		}
	}
	f := r.Facts
	fmt.Fprintf(w, "%s  refused at %s, %s\n", r.Ref, strings.ToUpper(r.Stage), r.At.Local().Format(time.DateTime))
	line("said", r.Reply.String())
	line("because", strings.TrimSuffix("rule "+r.Rule+": "+r.Reason, ": "))
	client := f.Address.String()
	if f.Name != "" {
		client += " (" + f.Name + ")"
	}
	line("client", client)
	line("helo", f.Helo)
	line("listener", f.Listener)
	line("tls", f.TLS)
	line("identity", f.Identity)
	if r.Stage == "rcpt" || r.Stage == "data" {
		line("from", sender(f.ReversePath.String()))
	}
	if f.Recipient != nil {
		line("to", f.Recipient.String())
	}
	if r.Count > 1 {
		line("count", fmt.Sprintf("%d of this kind from the address in that minute", r.Count))
	}
	_, err := io.WriteString(out, w.String())
	return err
}
