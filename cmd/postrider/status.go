package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// health is the relay on one screen.
type health struct {
	AsOf   time.Time     `json:"as_of"`
	Bus    string        `json:"bus"`
	Stages []stageHealth `json:"stages"`
	Ledger *books.Status `json:"ledger,omitempty"`
	// Store is how full the store is; nil when nobody can say.
	Store *queue.Room `json:"store,omitempty"`
	// Requests are those for devices that wait for an answer.
	Requests requests `json:"requests"`
	// Processes are those of the relay, as each says of itself.
	Processes []service.Health `json:"processes"`
	// Problems, worst first, each with what to do next.
	Problems []string `json:"problems"`
	// Notes are what went wrong and is well now, and what is to be done.
	Notes []string `json:"notes"`
}

// requests counts the requests for devices that nobody answered, and those that
// should have been (S28).
type requests struct {
	Waiting int `json:"waiting"`
	Overdue int `json:"overdue"`
}

func requestsOf(reg *registry.Snapshot, now time.Time) (r requests) {
	for _, d := range reg.Entries().Devices {
		if !d.AnswerDue(now.Location()).IsZero() {
			r.Waiting++
		}
		if d.AnswerOverdue(now) {
			r.Overdue++
		}
	}
	return r
}

// stageHealth is the backlog before one service.
type stageHealth struct {
	Stage   string `json:"stage"`
	Waiting uint64 `json:"waiting"` // messages not yet taken
	Working uint64 `json:"working"` // taken, not settled
	Workers int    `json:"workers"` // open requests for more
	Missing bool   `json:"missing"` // nobody works
	Held    bool   `json:"held"`    // it is there, and waits until somebody confirms the plan of recovery
}

// absent reports that nobody takes messages and nobody has any.
func (s stageHealth) absent() bool { return s.Workers == 0 && s.Working == 0 }

func newStatus(f *flags) *cobra.Command {
	return withOutput(f, answers, &cobra.Command{
		Use:   "status",
		Short: "The relay on one screen",
		Long:  "Show what each service has before it, what is queued and settled, and what is wrong. Exits 10 when something is.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			h, err := examine(cmd.Context(), bus, cfg.Bus.URL != "")
			if err != nil {
				return err
			}
			s, err := store.Open(cmd.Context(), bus, cfg.FileEntries())
			if err != nil {
				return err
			}
			reg, err := s.Load(cmd.Context())
			if err != nil {
				return err
			}
			h.Requests = requestsOf(reg, time.Now())
			if note := untold(cfg, reg, time.Now()); note != "" {
				h.Notes = append(h.Notes, note)
			}
			if f.output == "json" {
				err = printJSON(cmd.OutOrStdout(), h)
			} else {
				err = h.print(cmd.OutOrStdout(), cfg.Relay.Hostname)
			}
			if err == nil && len(h.Problems) > 0 {
				return no(service.ExitNo, "not well")
			}
			return err
		},
	})
}

// A service between two requests looks as if it were not there: nobody is
// called missing who was there at one of several looks.
const (
	looks     = 6
	lookAgain = 150 * time.Millisecond
)

// examine reads the consumers of every stage and asks the processes and, where
// it is separate from them, the server.
func examine(ctx context.Context, bus *queue.Bus, separate bool) (*health, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h := &health{AsOf: time.Now().UTC(), Bus: bus.NC.ConnectedServerName() + " " + bus.NC.ConnectedServerVersion(), Problems: []string{}, Notes: []string{}}
	missing := map[string]bool{}
	for look := range looks {
		stages, err := readStages(ctx, bus)
		if err != nil {
			return nil, err
		}
		for _, s := range stages {
			missing[s.Stage] = s.absent() && (look == 0 || missing[s.Stage])
		}
		h.Stages = stages
		if !slices.ContainsFunc(stages, func(s stageHealth) bool { return missing[s.Stage] }) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
	if separate {
		h.askServer(ctx, bus)
	}
	if err := h.askProcesses(ctx, bus); err != nil {
		return nil, err
	}
	if err := h.judgeStages(ctx, bus, missing); err != nil {
		return nil, err
	}
	status, err := books.Client(bus).Status(ctx)
	switch {
	case errors.Is(err, books.ErrUnreachable):
		h.Problems = append(h.Problems, "ledger does not answer: start it (postrider run ledger)")
	case err != nil:
		return nil, err
	default:
		h.Ledger = status
		h.Problems = append(h.Problems, problemsOf(status)...)
		if status.Conflicts > 0 {
			h.Problems = append(h.Problems, fmt.Sprintf("%d recipients are in the books as served and not served: see postrider ledger balance", status.Conflicts))
		}
	}
	return h, nil
}

// judgeStages says which stages do not work, and what to do about it. Delivery
// sends nothing on purpose while LEDGER is rolled back.
func (h *health) judgeStages(ctx context.Context, bus *queue.Bus, missing map[string]bool) error {
	problems := []string{}
	why := bus.CheckLedger(ctx)
	rolledBack := errors.Is(why, queue.ErrRolledBack)
	switch {
	case rolledBack:
		problems = append(problems, fmt.Sprintf("nothing is sent: %v. Read postrider ledger recover --plan, then: postrider ledger recover --confirm ID", why))
	case why != nil:
		return why
	}
	for i := range h.Stages {
		s := &h.Stages[i]
		s.Held = rolledBack && s.Stage == "delivery" && h.runs(s.Stage)
		if s.Missing = missing[s.Stage] && !s.Held; s.Missing {
			problems = append(problems, fmt.Sprintf("%s does not work: start it (postrider run %s)", s.Stage, s.Stage))
		}
	}
	if rolledBack { // every worker says so, too
		h.Problems = slices.DeleteFunc(h.Problems, func(p string) bool { return strings.Contains(p, queue.ErrRolledBack.Error()) })
	}
	h.Problems = append(problems, h.Problems...)
	return nil
}

// runs reports that a process has a service.
func (h *health) runs(name string) bool {
	return slices.ContainsFunc(h.Processes, func(p service.Health) bool {
		return slices.ContainsFunc(p.Services, func(c service.Condition) bool { return c.Service == name })
	})
}

// askServer adds what a nats-server says of its store, to whom may ask it.
func (h *health) askServer(ctx context.Context, bus *queue.Bus) {
	if room, err := bus.Room(ctx); err == nil && room.Limit > 0 {
		h.Store = &room
	}
	failed := bus.FailedStreams(ctx)
	for _, stream := range slices.Sorted(maps.Keys(failed)) {
		h.Problems = append(h.Problems, fmt.Sprintf("stream %s stopped after a write error (%s): free space on its volume, then restart nats-server", stream, failed[stream]))
	}
}

// askProcesses adds what the processes of the relay say of themselves, and how
// full the store is.
func (h *health) askProcesses(ctx context.Context, bus *queue.Bus) (err error) {
	if h.Processes, err = service.AskHealth(ctx, bus); err != nil {
		return err
	}
	for _, p := range h.Processes {
		h.Problems = append(h.Problems, p.Problems...)
		for _, c := range p.Services {
			if len(c.Problems) > 0 {
				h.Problems = append(h.Problems, c.String())
			} else if c.Failures > 0 {
				h.Notes = append(h.Notes, fmt.Sprintf("%s failed %d times and was started again: see the log of %s", c.Service, c.Failures, p.Instance))
			}
		}
		if p.Store != nil { // who looks all the time knows best
			h.Store = p.Store
		}
	}
	return nil
}

// lost says what recovery waits for, and what it cannot help.
func problemsOf(s *books.Status) (problems []string) {
	if s.Recovery.Held != "" && s.RolledBack == "" { // who is rolled back is told by its mark
		problems = append(problems, "recovery is held, "+s.Recovery.Held+". Read postrider ledger recover --plan, then: postrider ledger recover --confirm ID")
	}
	if s.Recovery.Gone > 0 {
		problems = append(problems, fmt.Sprintf("%d recipients are lost with their content: postrider ledger recover --plan", s.Recovery.Gone))
	}
	if s.Stuck != "" {
		problems = append(problems, fmt.Sprintf("the ledger does not follow, %d records behind: %s", s.Lag(), s.Stuck))
	}
	if s.Residual != 0 {
		problems = append(problems, fmt.Sprintf("the books do not balance, by %d recipients: postrider ledger balance", s.Residual))
	}
	if o := s.Overdue; o != nil {
		problems = append(problems, fmt.Sprintf("settled content is kept %s too long, behind message %d of %s: the log of policy or of the ledger says why",
			time.Duration(o.Seconds*float64(time.Second)).Round(time.Second), o.Seq, o.Stream))
	}
	return problems
}

// readStages reads the consumers of every stage once.
func readStages(ctx context.Context, bus *queue.Bus) ([]stageHealth, error) {
	stages := []stageHealth{{Stage: "policy"}, {Stage: "signer"}, {Stage: "delivery"}, {Stage: "bounce"}}
	for stream, stage := range stagesOfStreams() {
		s, err := bus.JS.Stream(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream, err)
		}
		at := &stages[slices.IndexFunc(stages, func(s stageHealth) bool { return s.Stage == stage })]
		list := s.ListConsumers(ctx)
		for c := range list.Info() {
			if c.Config.Durable == "" { // of one who only looks
				continue
			}
			at.Waiting += c.NumPending
			at.Working += uint64(c.NumAckPending)
			at.Workers += c.NumWaiting
		}
		if err := list.Err(); err != nil {
			return nil, fmt.Errorf("read consumers of %s: %w", stream, err)
		}
	}
	return stages, nil
}

// stagesOfStreams is which service consumes which stream.
func stagesOfStreams() map[string]string {
	m := map[string]string{queue.StreamAdmitted: "signer", queue.StreamDeliver: "delivery", queue.StreamReport: "bounce"}
	for n := range queue.Shards {
		m[queue.MailStream(n)] = "policy"
	}
	return m
}

func (h *health) print(out io.Writer, hostname string) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "%s  bus %s  as of %s\n\n", hostname, h.Bus, h.AsOf.Local().Format(time.DateTime))
	fmt.Fprintf(w, "%-10s %10s %10s  %s\n", "STAGE", "WAITING", "WORKING", "")
	for _, s := range h.Stages {
		state := "+ works"
		switch {
		case s.Missing:
			state = "x nobody works"
		case s.Held:
			state = "! holds"
		}
		fmt.Fprintf(w, "%-10s %10d %10d  %s\n", s.Stage, s.Waiting, s.Working, state)
	}
	if l := h.Ledger; l != nil {
		fmt.Fprintf(w, "\n%d messages in the books; recipients:", l.Messages)
		for _, state := range books.States {
			if n := l.States[state]; n > 0 || state == books.StateQueued {
				fmt.Fprintf(w, " %d %s", n, state)
			}
		}
		fmt.Fprintln(w)
		if l.Held > 0 {
			fmt.Fprintf(w, "%d of the queued are held: postrider queue ls state:held\n", l.Held)
		}
		if lag := l.Lag(); lag > 0 {
			fmt.Fprintf(w, "The ledger's index is %d records behind.\n", lag)
		}
	}
	if r := h.Requests; r.Overdue > 0 {
		fmt.Fprintf(w, "\n%d requests wait for an answer, %d for more than three working days: postrider device ls --overdue\n", r.Waiting, r.Overdue)
	} else if r.Waiting > 0 {
		fmt.Fprintf(w, "\n%d requests wait for an answer: postrider device ls state:requested\n", r.Waiting)
	}
	if r := h.Store; r != nil {
		fmt.Fprintf(w, "\nStore: %s of %s used (%.0f %%)\n", size(r.Used), size(r.Limit), 100*r.Ratio())
	}
	fmt.Fprintln(w)
	for _, p := range h.Problems {
		fmt.Fprintf(w, "x %s\n", p)
	}
	for _, n := range h.Notes {
		fmt.Fprintf(w, "! %s\n", n)
	}
	if len(h.Problems) == 0 {
		fmt.Fprintln(w, "+ Nothing is wrong.")
	}
	_, err := io.WriteString(out, w.String())
	return err
}
