// Command postrider is the people's program: it runs the relay, and it is the
// hand of operators and analysts.
//
// Data goes to stdout, progress and errors to stderr. Listing commands take
// -o table|json|jsonl|csv. Exit codes: 0 done, 1 error, 2 usage or
// configuration, 3 not found, 4 not permitted, 5 conflict, 6 unreachable, 7
// partly done, 10 the answer is no, 20 does not balance, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the program with its arguments and returns its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(excluding(args))
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var quiet *answeredNo
	if err != nil && !errors.As(err, &quiet) {
		fmt.Fprintln(errs, "postrider: "+strings.TrimSuffix(err.Error(), "\n"))
	}
	return service.ExitCode(err)
}

// answeredNo ends a command whose output said it all, with its exit code.
type answeredNo struct{ service.Exit }

func (a *answeredNo) Unwrap() error { return &a.Exit }

func no(code int, why string) error {
	return &answeredNo{service.Exit{Code: code, Err: errors.New(why)}}
}

// usage marks an error of the person at the keyboard: exit 2.
func usage(format string, args ...any) error {
	return &service.Exit{Code: service.ExitUsage, Err: fmt.Errorf(format, args...)}
}

// flags are those of every command.
type flags struct {
	config string
	output string
	// command is the first word of what was asked for.
	command string
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use:           "postrider",
		Short:         "An SMTP relay for devices and applications",
		Long:          "Postrider accepts mail from printers, scanners, instruments and applications, and sees it delivered or returned.\n\nTry it:  postrider up",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee: %s --help", err, c.CommandPath())
	})
	root.PersistentPreRun = func(c *cobra.Command, _ []string) { f.command = family(c) }
	root.PersistentFlags().StringVar(&f.config, "config", "", "configuration file (default: $POSTRIDER_CONFIG, ./postrider.yaml, /etc/postrider/postrider.yaml; none: the sandbox)")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run the relay:"},
		&cobra.Group{ID: "look", Title: "See what it does:"},
		&cobra.Group{ID: "manage", Title: "Manage it:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newUp(f), newRun(f), newInit(), newConfig(f))
	add("look", newStatus(f), newCheck(f), newExplain(f), newTrace(f), newQueue(f), newLedger(f), newSandbox(f), newAddresses(f))
	add("manage", newDevice(f), newCredential(f), newDomain(f), newNetwork(f), newBlock(f), newOwner(f), newGroup(f), newRegistry(f), newContain(f), newNotify(f), newDKIM(f))
	checkArguments(root)
	return root
}

// checkArguments makes every wrong number of arguments, and every unknown
// command, exit 2 with a hint.
func checkArguments(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("%w\nSee: %s --help", err, cmd.CommandPath())
			}
			return nil
		}
	}
	c.SuggestionsMinimumDistance = 2
	if c.HasSubCommands() && c.RunE == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := ""
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				hint = "; did you mean " + strings.Join(s, " or ") + "?"
			}
			return usage("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
		}
	}
	for _, sub := range c.Commands() {
		checkArguments(sub)
	}
}
