package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/loadtest/check"
	"github.com/postrider/postrider/loadtest/journal"
)

// tolerance is the budget as flags.
type tolerance struct{ check.Budget }

func (t *tolerance) bind(flags *pflag.FlagSet) {
	flags.IntVar(&t.Duplicates, "duplicate-budget", 0, "acknowledged copies beyond the first that injected faults explain")
	flags.IntVar(&t.Late, "late-budget", 0, "messages that may exist after a 4yz to the dot")
	flags.BoolVar(&t.AllowQueued, "allow-queued", false, "accept recipients that are still queued")
}

func newCheck() *cobra.Command {
	var (
		t             tolerance
		output        form
		clients, sink []string
		ledger        string
	)
	command := &cobra.Command{
		Use:   "check",
		Short: "Hold the journals of generate and sink against the relay's ledger",
		Long: "Hold the journals of generate and sink against the relay's ledger.\n\n" +
			"Exit codes: 0 the invariants hold, 1 violated, 2 unusable input, 3 not quiescent.",
		Args: cobra.NoArgs,
	}
	flags := command.Flags()
	t.bind(flags)
	output.bind(flags)
	flags.StringSliceVar(&clients, "journal", []string{"client.jsonl"}, "journals of generate")
	flags.StringSliceVar(&sink, "sink", []string{"sink.jsonl"}, "journals of sink")
	flags.StringVar(&ledger, "ledger", "ledger.jsonl", "result of `postrider ledger export -o jsonl`")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if err := output.validate(); err != nil {
			return err
		}
		result, err := judge(clients, sink, ledger, t.Budget)
		if err != nil {
			return &ended{int(check.Unusable), err}
		}
		if err := output.write(command.OutOrStdout(), result, result.WriteText); err != nil {
			return failed(command.Context(), fmt.Errorf("write report: %w", err))
		}
		return verdict(result)
	}
	return command
}

// verdict is the exit code of a result.
func verdict(result check.Result) error {
	if result.Verdict == check.Holds {
		return nil
	}
	return &ended{code: int(result.Verdict)}
}

// judge reads the witnesses and checks them.
func judge(clients, sinks []string, ledger string, budget check.Budget) (check.Result, error) {
	var (
		w   check.Witnesses
		err error
	)
	if w.Client, err = readAll[journal.Submission](clients); err != nil {
		return check.Result{}, err
	}
	if w.Sink, err = readAll[journal.Arrival](sinks); err != nil {
		return check.Result{}, err
	}
	if w.Ledger, err = journal.ReadFile[journal.Settlement](ledger, journal.Whole); err != nil {
		return check.Result{}, err
	}
	return check.Check(w, budget)
}

func readAll[T any](paths []string) ([]T, error) {
	var all []T
	for _, path := range paths {
		lines, err := journal.ReadFile[T](path, journal.MayBeCut)
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	return all, nil
}
