package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	r, err := findRefusal(cmd.Context(), bus, cmd.ErrOrStderr(), ref)
	if err != nil {
		return err
	}
	if form == "json" {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return printRefusal(cmd.OutOrStdout(), r)
}

// findRefusal looks references up in the evidence of refusals, the newest
// first, and returns the first that it finds. The evidence is bounded: an old or
// crowded-out reference is not found.
func findRefusal(ctx context.Context, bus *queue.Bus, progress io.Writer, refs ...mail.Ref) (*event.Refusal, error) {
	var found *event.Refusal
	named := func(data []byte) bool {
		return slices.ContainsFunc(refs, func(r mail.Ref) bool { return bytes.Contains(data, []byte(r)) })
	}
	err := eachRefusal(ctx, bus, progress, named, func(r *event.Refusal) error {
		if !slices.Contains(refs, r.Ref) {
			return nil
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
	return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no refusal has the reference %s: evidence is kept for 30 days, and of a flood only the first of each address and minute", refs[0])}
}

// eachRefusal hands the evidence of refusals to each, the newest first. Whether
// a record may matter is asked before it is read: there may be hundreds of
// thousands.
func eachRefusal(ctx context.Context, bus *queue.Bus, progress io.Writer, matters func(data []byte) bool, each func(*event.Refusal) error) error {
	read, began, told := 0, time.Now(), time.Now()
	err := bus.ListNewest(ctx, queue.StreamRefused, func(m *jetstream.RawStreamMsg) error {
		if read++; read%1024 == 0 && time.Since(told) > time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "%d refusals read in %s, back to %s\n", read, age(told.Sub(began)), m.Time.Local().Format(time.DateTime))
		}
		if !matters(m.Data) {
			return nil
		}
		r, err := event.Decode[event.Refusal](m.Data)
		if err != nil {
			return nil //nolint:nilerr // evidence that cannot be read is not the one asked for
		}
		return each(r)
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// printRefusal says what was refused, to whom, and why.
func printRefusal(out io.Writer, r *event.Refusal) error {
	w := &strings.Builder{}
	writeRefusal(w, r)
	_, err := io.WriteString(out, w.String())
	return err
}

func writeRefusal(w io.Writer, r *event.Refusal) {
	f := r.Facts
	fmt.Fprintf(w, "%s  refused at %s, %s\n", r.Ref, strings.ToUpper(r.Stage), r.At.Local().Format(time.DateTime))
	if r.Reply.IsZero() {
		line(w, "said", "nothing: the connection was closed")
	} else {
		line(w, "said", r.Reply.String())
	}
	line(w, "because", strings.TrimSuffix("rule "+r.Rule+": "+r.Reason, ": "))
	client := f.Address.String()
	if f.Name != "" {
		client += " (" + f.Name + ")"
	}
	line(w, "client", client)
	if f.Helo != "" {
		line(w, "helo", mail.Printable(f.Helo, 128))
	}
	line(w, "listener", f.Listener)
	line(w, "tls", f.TLS)
	line(w, "identity", f.Identity)
	if r.Stage == "rcpt" || r.Stage == "data" {
		line(w, "from", sender(f.ReversePath.String()))
	}
	if f.Recipient != nil {
		line(w, "to", f.Recipient.String())
	}
	if r.Count > 1 {
		line(w, "count", fmt.Sprintf("%d of this kind from the address in that minute", r.Count))
	}
}
