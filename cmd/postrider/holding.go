package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

func newQueueHold(f *flags) *cobra.Command {
	var all, dry bool
	reason := ""
	c := &cobra.Command{
		Use:   "hold SELECTOR",
		Short: "Hold what is ready or deferred",
		Long: `Hold jobs of the delivery queue that have not begun: none of them is tried again
until somebody decides, with queue release, bounce or drop. What is accepted
later is not concerned. Ids may come on stdin with "-".

  postrider queue hold domain:partner.test --reason "they ask us to wait"
  postrider queue ls state:held reason:"ask us to wait"

` + selectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withChosen(cmd, f, args, all, func(bus *queue.Bus, s *selector) error { return holdJobs(cmd, bus, s, dry, reason) })
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every job")
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would be held, change nothing")
	c.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	return c
}

// holdJobs holds the chosen jobs, or with dry says which those are.
func holdJobs(cmd *cobra.Command, bus *queue.Bus, s *selector, dry bool, reason string) error {
	now := time.Now()
	chosen, err := jobsWhere(cmd.Context(), bus, func(e queue.JobEntry) bool { return s.matches(e, now) })
	switch {
	case err != nil:
		return err
	case len(chosen) == 0:
		return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no job matches; see: postrider queue ls")}
	case dry:
		for _, e := range chosen {
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s\n", e.Job.ID, visible(e.Job.Destination), visible(several(recipientsOf(e))))
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d jobs would be held\n", len(chosen))
		return nil
	}
	h := event.Holding{At: now.UTC(), Rule: event.RuleHold, By: actor(), Reason: reason}
	for part := range slices.Chunk(chosen, queue.MaxHoldingJobs) {
		one := h
		for _, e := range part {
			one.Jobs = append(one.Jobs, e.Job.ID)
		}
		if err := bus.PutHolding(cmd.Context(), &one); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for _, e := range chosen {
		names[e.Job.ID] = true
	}
	left, err := bringIn(cmd.Context(), bus, &h, func(e queue.JobEntry) bool { return names[e.Job.ID] && e.Job.Released.Before(h.At) })
	if err != nil {
		return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("none of the jobs is tried, but they are not all among what is held yet: %w", err)}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d jobs are held, or went while that was asked; see: postrider queue ls state:held\n", len(chosen)-left)
	tellLeft(cmd, left)
	return nil
}

// tellLeft tells of jobs that delivery has not come to.
func tellLeft(cmd *cobra.Command, left int) {
	if left > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d more are, once delivery comes to them; it tries none of them\n", left)
	}
}

// jobsWhere lists jobs that can be read.
func jobsWhere(ctx context.Context, bus *queue.Bus, is func(queue.JobEntry) bool) (out []queue.JobEntry, err error) {
	err = bus.ListJobs(ctx, func(e queue.JobEntry) error {
		if e.Err == nil && is(e) {
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// heldWait bounds the wait for delivery.
const (
	heldWait = 15 * time.Second
	heldLook = 200 * time.Millisecond
)

// bringIn makes those of the jobs ready that are deferred, so that delivery comes
// to them and holds them, until none is in the queue any more; it says how many
// are when it waited long enough. An attempt that was under way may still defer
// its job.
func bringIn(ctx context.Context, bus *queue.Bus, h *event.Holding, is func(queue.JobEntry) bool) (left int, err error) {
	end := time.Now().Add(heldWait)
	for {
		jobs, err := jobsWhere(ctx, bus, is)
		if err == nil {
			err = summon(ctx, bus, h, jobs)
		}
		if err != nil || len(jobs) == 0 || time.Now().After(end) {
			return len(jobs), err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(heldLook):
		}
	}
}

// summon makes the deferred ones ready. Each says itself that it is to be held:
// delivery may see it before it knows of the holding.
func summon(ctx context.Context, bus *queue.Bus, h *event.Holding, jobs []queue.JobEntry) error {
	bare := *h
	bare.Schema, bare.Jobs = event.Schema, nil
	for _, e := range jobs {
		if !e.Deferred() {
			continue
		}
		j := *e.Job
		j.Hold = &bare
		e.Job = &j
		if err := bus.Expedite(ctx, e); err != nil && !errors.Is(err, queue.ErrMoved) {
			return err
		}
	}
	return nil
}
