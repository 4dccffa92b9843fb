package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/loadtest/compare"
	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
)

// exitNo: the goals do not hold.
const exitNo = 10

// contest is what the flags of compare say.
type contest struct {
	compare.Config
	sizes  sizes
	modes  []string
	parent string
	quick  bool
	assert bool
	output string
}

func newCompare() *cobra.Command {
	c := contest{sizes: sizes{10 << 10, 1 << 10, 100 << 10}}
	command := &cobra.Command{
		Use:   "compare",
		Short: "Run Postfix, Postfix with OpenDKIM, and Postrider in turn under the same load",
		Long: "Run Postfix, Postfix with OpenDKIM, and Postrider in turn under the same load, on this machine.\n\n" +
			"Each has directories of its own below a temporary one, and free ports of 127.0.0.1; a Postfix that this\n" +
			"machine runs is not touched. Needs root, postfix, opendkim, strace, and a built postrider.\n\n" +
			"Exit codes: 0 done, 1 an error or a run that failed, 2 wrong usage or a program missing, 10 --assert was\n" +
			"given and a goal does not hold, 130 interrupted (what was measured is written).",
		Args: cobra.NoArgs,
	}
	flags := command.Flags()
	flags.StringSliceVar(&c.Servers, "servers", append([]string{compare.Direct}, contender.Names()...), "what to run")
	flags.Var(&c.sizes, "sizes", "octets of a message")
	flags.IntSliceVar(&c.Connections, "connections", []int{20, 100}, "connections side by side")
	flags.StringSliceVar(&c.modes, "modes", []string{string(compare.Reuse), string(compare.Single)}, "reuse connections, or a single message on each")
	flags.IntVar(&c.Rounds, "rounds", 3, "how often each is run, in turn")
	flags.IntVar(&c.Messages, "messages", 3000, "messages of a run at 10 KiB; larger ones are fewer")
	flags.IntVar(&c.SyncMessages, "sync-messages", 200, "messages of the pass that counts fsync; 0: no such pass")
	flags.DurationVar(&c.SyncDelay, "sync-delay", 0, "make every fsync take this much longer, by strace: a slower disk")
	flags.StringVar(&c.Postrider, "postrider", "", "program (default: ./bin/postrider, or beside this one, or in $PATH)")
	flags.StringVar(&c.parent, "dir", os.TempDir(), "where to make the temporary directory: on the disk that is to be measured")
	flags.BoolVar(&c.quick, "quick", false, "10 KiB, 20 connections, one round of 300 messages: shows that it works, measures little")
	flags.BoolVar(&c.assert, "assert", false, "exit 10 unless the goals hold in every cell")
	flags.StringVarP(&c.output, "output", "o", "table", "form of the result: table, json or markdown")
	command.RunE = func(command *cobra.Command, _ []string) error { return c.run(command) }
	return command
}

// prepare completes the configuration and reports what is wrong with it.
func (c *contest) prepare(given func(flag string) bool) error {
	if c.quick {
		c.shorten(given)
	}
	c.Sizes = c.sizes.octets()
	c.Modes = nil
	for _, mode := range c.modes {
		c.Modes = append(c.Modes, compare.Mode(mode))
	}
	if c.Postrider == "" {
		c.Postrider = findPostrider()
	}
	if c.output != "table" && c.output != "json" && c.output != "markdown" {
		return fmt.Errorf("output: %q is not table, json or markdown", c.output)
	}
	if kind := meter.DescribeMachine(c.parent).Filesystem; strings.HasPrefix(kind, "tmpfs") || strings.HasPrefix(kind, "ramfs") {
		return fmt.Errorf("dir: %s is in memory (%s), where fsync costs nothing; name one on a disk", c.parent, kind)
	}
	return errors.Join(c.Validate(), c.Missing())
}

// shorten is --quick, for what no flag says.
func (c *contest) shorten(given func(flag string) bool) {
	for flag, set := range map[string]func(){
		"sizes":         func() { c.sizes = sizes{10 << 10} },
		"connections":   func() { c.Connections = []int{20} },
		"rounds":        func() { c.Rounds = 1 },
		"messages":      func() { c.Messages = 300 },
		"sync-messages": func() { c.SyncMessages = 50 },
	} {
		if !given(flag) {
			set()
		}
	}
}

func (c *contest) run(command *cobra.Command) (err error) {
	if err := c.prepare(command.Flags().Changed); err != nil {
		return err
	}
	ctx := command.Context()
	if c.Dir, err = os.MkdirTemp(c.parent, "compare-"); err != nil {
		return failed(ctx, err)
	}
	// Postfix's own user has to get in.
	if err := os.Chmod(c.Dir, 0o755); err != nil {
		return failed(ctx, err)
	}
	c.Progress = command.ErrOrStderr()
	result, err := compare.Compare(ctx, c.Config)
	if err == nil {
		err = c.write(command, result)
	}
	if err == nil && result.Failures() > 0 {
		return failed(ctx, fmt.Errorf("%d runs failed; the logs are in %s", result.Failures(), c.Dir))
	}
	err = errors.Join(err, os.RemoveAll(c.Dir))
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return failed(ctx, err)
	}
	if c.assert && !result.Asserted() {
		return &ended{code: exitNo}
	}
	return nil
}

func (c *contest) write(command *cobra.Command, result compare.Result) error {
	out := command.OutOrStdout()
	switch c.output {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	case "markdown":
		return result.WriteMarkdown(out)
	}
	return result.WriteTable(out)
}

// findPostrider looks where a build leaves it. What is not found is reported
// under its plain name.
func findPostrider() string {
	candidates := []string{filepath.Join("bin", contender.Postrider)}
	if self, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(self), contender.Postrider))
	}
	for _, path := range candidates {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return contender.Postrider
}

// sizes is a flag of several sizes.
type sizes []size

func (s *sizes) String() string {
	var texts []string
	for _, one := range *s {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, ",")
}

func (s *sizes) Type() string { return "sizes" }

func (s *sizes) Set(text string) error {
	*s = nil
	for part := range strings.SplitSeq(text, ",") {
		var one size
		if err := one.Set(part); err != nil {
			return err
		}
		*s = append(*s, one)
	}
	return nil
}

func (s *sizes) octets() []int {
	var all []int
	for _, one := range *s {
		all = append(all, int(one))
	}
	return all
}
