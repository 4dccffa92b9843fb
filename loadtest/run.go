package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/loadtest/check"
	"github.com/postrider/postrider/loadtest/generate"
	"github.com/postrider/postrider/loadtest/journal"
)

// steadyPolls is how many polls in a row must show the same before the relay
// is believed to have come to rest.
const steadyPolls = 3

// trial is one whole run against a relay that somebody else has started.
type trial struct {
	load      load
	mailbox   mailbox
	tolerance tolerance
	// export writes what the relay claims to ledger.jsonl.
	export func(ctx context.Context) error
	// dir gets client.jsonl, sink.jsonl and ledger.jsonl.
	dir string
	// patience bounds the wait for rest, poll is the time between two looks.
	patience, poll time.Duration
	stderr         io.Writer
}

// outcome is what a trial reports.
type outcome struct {
	Load  generate.Summary `json:"load"`
	Check check.Result     `json:"check"`
	// Dir has the evidence.
	Dir string `json:"dir"`
}

func (o outcome) writeText(w io.Writer) error {
	if err := o.Load.WriteText(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := o.Check.WriteText(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "evidence in %s\n", o.Dir)
	return err
}

func newRun() *cobra.Command {
	var (
		t                 trial
		output            form
		postrider, config string
	)
	command := &cobra.Command{
		Use:   "run",
		Short: "Load a running relay, wait until it has come to rest, and check",
		Long: "Load a running relay, wait until it has come to rest, and check.\n\n" +
			"The relay must route the domains of recipients and sender to the sink (--listen).\n" +
			"Exit codes: 0 the invariants hold, 1 violated or an error, 2 unusable input, 3 not quiescent.",
		Args: cobra.NoArgs,
	}
	flags := command.Flags()
	t.load.bind(flags)
	t.mailbox.bind(flags, "sink-")
	t.tolerance.bind(flags)
	output.bind(flags)
	flags.BoolVar(&t.mailbox.fsync, "fsync", false, "sync both journals, in groups")
	flags.StringVar(&postrider, "postrider", "postrider", "program to export the ledger with")
	flags.StringVar(&config, "config", "", "its configuration file")
	flags.StringVar(&t.dir, "dir", "", "new or empty directory for journals and ledger (default: a temporary one)")
	flags.DurationVar(&t.patience, "settle", 2*time.Minute, "how long to wait until the relay has come to rest")
	flags.DurationVar(&t.poll, "poll", time.Second, "time between two looks at the ledger")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if err := errors.Join(output.validate(), t.load.config().Validate()); err != nil {
			return err
		}
		if t.poll <= 0 || t.patience <= 0 {
			return errors.New("poll, settle: not positive")
		}
		ctx := command.Context()
		t.stderr = command.ErrOrStderr()
		t.export = func(ctx context.Context) error { return exportLedger(ctx, postrider, config, t.path("ledger")) }
		result, err := t.run(ctx)
		if errors.Is(err, journal.ErrUnusable) && ctx.Err() == nil {
			return &ended{int(check.Unusable), err}
		}
		if err != nil {
			return failed(ctx, err)
		}
		if err := output.write(command.OutOrStdout(), result, result.writeText); err != nil {
			return failed(ctx, err)
		}
		return verdict(result.Check)
	}
	return command
}

// run starts the sink, makes the load, and waits for the verdict.
func (t *trial) run(ctx context.Context) (outcome, error) {
	if err := t.prepare(); err != nil {
		return outcome{}, err
	}
	fmt.Fprintf(t.stderr, "evidence in %s\n", t.dir)
	client, err := journal.Open(t.path("client"), t.mailbox.fsync)
	if err != nil {
		return outcome{}, err
	}
	defer client.Close()
	copies, err := journal.Open(t.path("sink"), t.mailbox.fsync)
	if err != nil {
		return outcome{}, err
	}
	defer copies.Close()
	server, listener, err := t.mailbox.open(copies)
	if err != nil {
		return outcome{}, err
	}
	// The sink outlives an interrupted load, but not this function.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(serving, listener) }()
	defer func() { stop(); <-stopped }()

	summary, err := submit(ctx, t.load.config(), client, t.stderr)
	if err != nil {
		return outcome{}, fmt.Errorf("generate: %w", err)
	}
	if summary.Accepted == 0 {
		return outcome{}, errNothingAccepted
	}
	fmt.Fprintf(t.stderr, "accepted %d messages at %.1f/s, waiting for the relay to come to rest\n", summary.Accepted, summary.Rate)
	result, err := t.settle(ctx)
	return outcome{Load: summary, Check: result, Dir: t.dir}, err
}

// prepare makes the directory. Journals of an earlier run would testify about
// mail of which this run knows nothing.
func (t *trial) prepare() (err error) {
	if t.dir == "" {
		t.dir, err = os.MkdirTemp("", "loadtest-")
		return err
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(t.dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("directory %s is not empty", t.dir)
	}
	return err
}

func (t *trial) path(witness string) string { return filepath.Join(t.dir, witness+".jsonl") }

// settle looks at the ledger until the relay is at rest and several looks in a
// row were the same, or patience ends. The last result is the answer: one
// that held too early may be followed by a duplicate.
func (t *trial) settle(ctx context.Context) (check.Result, error) {
	patience, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	ticker := time.NewTicker(t.poll)
	defer ticker.Stop()
	var last check.Result
	lastErr := errors.New("the ledger was never read")
	steady := 0
	for {
		result, err := t.look(patience)
		switch {
		case patience.Err() != nil:
			// Cut short: this look says nothing.
		case err != nil:
			// The relay may be starting again; its trouble counts only
			// if it lasts.
			steady, lastErr = 0, err
		default:
			switch {
			case !t.atRest(result):
				steady = 0
			case steady > 0 && same(result, last):
				steady++
			default:
				steady = 1
			}
			last, lastErr = result, nil
		}
		if steady == steadyPolls {
			return last, nil
		}
		select {
		case <-ticker.C:
		case <-patience.Done():
			if ctx.Err() != nil {
				return last, ctx.Err()
			}
			return last, lastErr
		}
	}
}

// atRest reports that nothing more is to be expected. A recipient without a
// state, or a bounce without its report, may only be late; what breaks the
// other invariants does not heal.
func (t *trial) atRest(r check.Result) bool {
	for _, v := range r.Violations {
		if v.Invariant == check.Conservation {
			return false
		}
	}
	return t.tolerance.AllowQueued || len(r.Queued)+r.Counts.OtherQueued == 0
}

func same(a, b check.Result) bool {
	return reflect.DeepEqual(a.Counts, b.Counts) && len(a.Violations) == len(b.Violations)
}

// look exports the ledger and checks.
func (t *trial) look(ctx context.Context) (check.Result, error) {
	if err := t.export(ctx); err != nil {
		return check.Result{}, err
	}
	return judge([]string{t.path("client")}, []string{t.path("sink")}, t.path("ledger"), t.tolerance.Budget)
}

// exportLedger runs `postrider ledger export` into the file at path.
func exportLedger(ctx context.Context, postrider, config, path string) error {
	args := []string{"ledger", "export", "-o", "jsonl"}
	if config != "" {
		args = append(args, "--config", config)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var complaint strings.Builder
	command := exec.CommandContext(ctx, postrider, args...)
	command.Stdout, command.Stderr = file, &complaint
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return fmt.Errorf("export ledger: %w: %.300s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
}
