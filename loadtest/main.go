// Command loadtest puts a relay under load and then proves, from the outside,
// that no message was lost, made up, doubled or changed.
//
//	loadtest generate   submit messages and keep a journal
//	loadtest sink       be the mailbox at the far end and keep a journal
//	loadtest check      hold both journals against the relay's ledger
//	loadtest run        all three against a relay that is running
//	loadtest compare    Postrider beside Postfix, which it starts itself
//
// It imports nothing of the product: a witness that shares code with the
// accused shares its faults. README.md has the method and the commands.
//
// Exit codes: 0 done, or the invariants hold; 1 an error, or violated; 2 wrong
// usage, or unusable journals; 3 not quiescent; 10 the goals of a comparison do
// not hold; 130 interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// ended is the error of a command that ran; an error without it is one of
// usage, found before the command began.
type ended struct {
	code int
	err  error // nil when the report has said it all
}

func (e *ended) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *ended) Unwrap() error { return e.err }

// failed gives an error of a command its exit code.
func failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &ended{exitInterrupted, err}
	}
	return &ended{exitError, err}
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "loadtest",
		Short:         "Load a mail relay and prove that it kept its promises",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(newGenerate(), newSink(), newCheck(), newRun(), newCompare())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e *ended
	if !errors.As(err, &e) {
		fmt.Fprintf(stderr, "loadtest: %v\n", err)
		return exitUsage
	}
	if e.err != nil {
		fmt.Fprintf(stderr, "loadtest: %v\n", e.err)
	}
	return e.code
}

// form is the output form of a command.
type form string

func (f *form) bind(flags *pflag.FlagSet) {
	*f = "text"
	flags.StringVarP((*string)(f), "output", "o", "text", "form of the result: text or json")
}

func (f form) validate() error {
	if f != "text" && f != "json" {
		return fmt.Errorf("output: %q is not text or json", string(f))
	}
	return nil
}

// write writes the result: value as JSON, or by its own text.
func (f form) write(w io.Writer, value any, text func(io.Writer) error) error {
	if f == "text" {
		return text(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
