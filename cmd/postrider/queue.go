package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

func newQueue(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "queue", Short: "See what is queued, try it again, hold it, decide about what is held"}
	c.AddCommand(newQueueList(f), newQueueRetry(f), newQueueHold(f), newVerdict(f, releasing), newVerdict(f, bouncing), newVerdict(f, dropping))
	return c
}

// jobRow is one job in a listing.
type jobRow struct {
	ID          string       `json:"id"`
	QueueID     mail.QueueID `json:"queue_id"`
	State       string       `json:"state"`
	AcceptedAt  time.Time    `json:"accepted_at"`
	Next        *time.Time   `json:"next"`
	Attempts    int          `json:"attempts"`
	Size        int64        `json:"size"`
	Sender      string       `json:"sender"`
	Destination string       `json:"destination"`
	Recipients  []string     `json:"recipients"`
	Device      string       `json:"device,omitempty"`
	Owner       string       `json:"owner,omitempty"`
	Reason      string       `json:"reason,omitempty"`
}

func rowOf(e queue.JobEntry) jobRow {
	j := e.Job
	r := jobRow{
		ID: j.ID, QueueID: j.QueueID, State: stateOf(e), AcceptedAt: j.AcceptedAt, Attempts: j.Attempt, Size: j.Size(),
		Sender: j.Env.ReversePath.String(), Destination: j.Destination, Recipients: recipientsOf(e),
		Device: j.Device, Owner: j.Owner, Reason: j.LastReply,
	}
	if e.Deferred() || isHeld(e) && !e.Next.IsZero() {
		r.Next = &e.Next
	}
	return r
}

func newQueueList(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls [SELECTOR]",
		Short: "List what is ready, deferred or held",
		Long:  "List the jobs of the delivery queue, one for each message and destination, and the\nmessages that are held until somebody decides about them. Of those that the\nhourly limits of a device hold, next is when they about have their turn.\n\n  postrider queue ls domain:example.org older:2h\n  postrider queue ls state:held\n\n" + selectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseSelector(args, false)
			if err != nil {
				return err
			}
			_, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			now := time.Now()
			l, err := newListing(f, cmd.OutOrStdout(), []string{"id", "state", "age", "next", "tries", "size", "from", "to", "reason"}, func(r jobRow) []string {
				next := "-"
				if r.Next != nil {
					next = age(r.Next.Sub(now))
				}
				return []string{r.ID, r.State, age(now.Sub(r.AcceptedAt)), next, strconv.Itoa(r.Attempts), size(r.Size),
					sender(r.Sender), several(r.Recipients), r.Reason}
			})
			if err != nil {
				return err
			}
			err = listQueued(cmd, bus, func(e queue.JobEntry) error {
				if !s.matches(e, now) {
					return nil
				}
				return l.add(rowOf(e))
			})
			if err != nil {
				return err
			}
			return l.end()
		},
	})
}

// listQueued hands every job and every held message to each, and tells of those
// that cannot be read.
func listQueued(cmd *cobra.Command, bus *queue.Bus, each func(queue.JobEntry) error) error {
	unreadable := func(stream string, seq uint64, err error) error {
		fmt.Fprintf(cmd.ErrOrStderr(), "cannot read %s/%d: %v\n", stream, seq, err)
		return nil
	}
	turns := clock{now: time.Now(), due: map[string]time.Time{}}
	err := bus.ListHeld(cmd.Context(), func(h queue.HeldEntry, err error) error {
		if err != nil {
			return unreadable(queue.StreamHeld, h.Seq, err)
		}
		e := heldEntry(h)
		e.Next = turns.turn(&h)
		return each(e)
	})
	if err != nil {
		return err
	}
	return bus.ListJobs(cmd.Context(), func(e queue.JobEntry) error {
		if e.Err != nil {
			return unreadable(queue.StreamDeliver, e.Seq, e.Err)
		}
		return each(e)
	})
}

// several names the first of a list and counts the rest.
func several(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return fmt.Sprintf("%s +%d", list[0], len(list)-1)
}

func newQueueRetry(f *flags) *cobra.Command {
	var all, dry bool
	reason := ""
	c := &cobra.Command{
		Use:   "retry SELECTOR",
		Short: "Try deferred jobs now instead of at their time",
		Long:  "Make deferred jobs ready at once. Ids may come on stdin with \"-\".\n\n  postrider queue retry domain:example.org\n  postrider queue ls -o json reason:tls | jq -r '.[].id' | postrider queue retry -\n\n" + selectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withChosen(cmd, f, args, all, func(bus *queue.Bus, s *selector) error { return retry(cmd, bus, s, dry, reason) })
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every deferred job")
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would be tried, change nothing")
	c.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	return c
}

// withChosen runs do with the bus and what a selector chooses; nothing is chosen
// without words, or --all.
func withChosen(cmd *cobra.Command, f *flags, args []string, all bool, do func(*queue.Bus, *selector) error) error {
	args, err := withStdin(args, cmd.InOrStdin())
	if err != nil {
		return err
	}
	s, err := parseSelector(args, all)
	if err != nil {
		return err
	}
	if err := s.chosen(); err != nil {
		return err
	}
	_, bus, err := connect(cmd.Context(), f)
	if err != nil {
		return err
	}
	defer bus.Close()
	return do(bus, s)
}

// withStdin replaces "-" by the ids on stdin.
func withStdin(args []string, in io.Reader) ([]string, error) {
	if len(args) != 1 || args[0] != "-" {
		return args, nil
	}
	var ids []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if id := strings.TrimSpace(lines.Text()); id != "" {
			ids = append(ids, id)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read ids from stdin: %w", err)
	}
	if len(ids) == 0 {
		return nil, usage("no ids on stdin")
	}
	return ids, nil
}

// retry makes the chosen jobs ready, or with dry says which those are.
func retry(cmd *cobra.Command, bus *queue.Bus, s *selector, dry bool, reason string) error {
	now := time.Now()
	var chosen []queue.JobEntry
	err := bus.ListJobs(cmd.Context(), func(e queue.JobEntry) error {
		if e.Err == nil && e.Deferred() && s.matches(e, now) {
			chosen = append(chosen, e)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(chosen) == 0:
		return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no deferred job matches; see: postrider queue ls")}
	case dry:
		for _, e := range chosen {
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s\n", e.Job.ID, visible(e.Job.Destination), visible(e.Job.LastReply))
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d jobs would be tried now\n", len(chosen))
		return nil
	}
	done, moved, progress := 0, 0, now
	for i, e := range chosen {
		switch err := expedite(cmd.Context(), bus, e, reason); {
		case errors.Is(err, queue.ErrMoved):
			moved++
		case err != nil && done == 0:
			return err
		case err != nil:
			return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("%d of %d are ready, then: %w", done, len(chosen), err)}
		default:
			done++
		}
		if time.Since(progress) > time.Second {
			progress = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d\n", i+1, len(chosen))
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d jobs are ready", done)
	if moved > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), ", %d had begun by themselves", moved)
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return nil
}

// expedite makes one job ready and says so in the ledger.
func expedite(ctx context.Context, bus *queue.Bus, e queue.JobEntry, reason string) error {
	if err := bus.Expedite(ctx, e); err != nil {
		return err
	}
	return bus.Record(ctx, fmt.Sprintf("%s/%d", e.Job.ID, e.Seq), event.Record{
		Stage: event.StageOperator, Outcome: event.Retried, QueueID: e.Job.QueueID, Job: e.Job.ID, Attempt: e.Job.Attempt, Actor: actor(), Reason: reason,
	})
}
