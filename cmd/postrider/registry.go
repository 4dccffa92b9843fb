package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newRegistry(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "registry", Short: "The whole registry as a file, and who changed what"}
	c.AddCommand(newRegistryExport(f), newRegistryDiff(f), newRegistryApply(f), newRegistryLog(f))
	return c
}

func newRegistryExport(f *flags) *cobra.Command {
	var how document.Form
	format := ""
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the registry as a file",
		Long: `Write every entry that a command made, as a file that can be kept, edited and
applied again.

  postrider registry export > registry.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			how.JSON = format == "json"
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				return document.Write(cmd.OutOrStdout(), snapshot.Entries(), how)
			})
		},
	}
	format = "yaml"
	c.Flags().VarP(&form{&format, "yaml|json"}, "output", "o", "output form: yaml|json")
	c.Flags().BoolVar(&how.File, "with-file", false, "also the entries of the configuration file; apply leaves them alone")
	c.Flags().BoolVar(&how.Secrets, "with-secrets", false, "also the hashes of secrets: keep such a file as you would keep passwords")
	return c
}

// applying is what diff and apply have in common.
type applying struct {
	document.Options
	confirm, reason, ticket string
}

func (a *applying) flags(c *cobra.Command) {
	c.Flags().BoolVar(&a.Remove, "prune", false, "remove what the file does not list, of the kinds that it names")
	c.Flags().BoolVar(&a.AnyNetwork, "any-network", false, "devices also where their network speaks against it")
}

// plan compares the registry with a file.
func (a *applying) plan(file string, in io.Reader, snapshot *registry.Snapshot) (*document.Plan, error) {
	text, err := readFile(file, in)
	if err != nil {
		return nil, err
	}
	d, err := document.Read(text)
	if err != nil {
		return nil, usage("%s: %w", file, err)
	}
	p, err := document.Diff(snapshot.Entries(), d, a.Options)
	if err != nil {
		return nil, err
	}
	for _, c := range p.Changes {
		if d, ok := c.Item.(*registry.Domain); ok && c.Action != document.Remove {
			if err := checkRoute(d); err != nil {
				p.Faults = append(p.Faults, err.Error())
			}
		}
	}
	return p, nil
}

func readFile(file string, in io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(in)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage("there is no file %s", file)
	}
	return text, err
}

func newRegistryDiff(f *flags) *cobra.Command {
	a := &applying{}
	c := withOutput(f, answers, &cobra.Command{
		Use:   "diff FILE",
		Short: "What a file has that the registry has not; exits 10 on a difference",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				a.Wildcards = wildcards(f)
				p, err := a.plan(args[0], cmd.InOrStdin(), snapshot)
				if err != nil {
					return err
				}
				if err := a.show(cmd, f, p); err != nil {
					return err
				}
				if len(p.Changes) > 0 {
					return no(service.ExitNo, "the registry differs")
				}
				return nil
			})
		},
	})
	a.flags(c)
	return c
}

func newRegistryApply(f *flags) *cobra.Command {
	a := &applying{}
	c := withOutput(f, answers, &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the registry what a file says",
		Long: `Show what would change for the registry to be what a file says, with the id of
that plan; with the id, carry it out. What the file does not list stays, unless
--prune is given. Entries of the configuration file are left alone.

When an entry changes meanwhile, the rest is not done and the exit code is 7.`,
		Example: "  postrider registry apply registry.yaml\n  postrider registry apply registry.yaml --confirm PLAN-ID",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				a.Wildcards, a.Ticket = wildcards(f), a.ticket
				p, err := a.plan(args[0], cmd.InOrStdin(), snapshot)
				switch {
				case err != nil:
					return err
				case a.confirm == "" || len(p.Faults) > 0:
					if err := a.show(cmd, f, p); err != nil {
						return err
					}
					if len(p.Faults) > 0 {
						return usage("the file cannot be applied as it is: %d faults", len(p.Faults))
					}
					return a.next(cmd, p, args[0])
				case a.confirm != p.ID:
					return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("the plan has changed; read it again: postrider registry apply %s", args[0])}
				}
				change := registry.Change{By: actor(), Reason: or(a.reason, "apply of "+filepath.Base(args[0])), Ticket: a.ticket, At: time.Now().UTC()}
				return carryOut(cmd, s, p, change)
			})
		},
	})
	a.flags(c)
	c.Flags().StringVar(&a.confirm, "confirm", "", "carry out the plan with this `id`")
	recordFlags(c, &a.reason, &a.ticket)
	return c
}

func (a *applying) next(cmd *cobra.Command, p *document.Plan, file string) error {
	if p.ID != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "Plan %s. To do it:\n  postrider registry apply %s%s%s --confirm %s\n", p.ID, file,
			map[bool]string{true: " --prune"}[a.Remove], map[bool]string{true: " --any-network"}[a.AnyNetwork], p.ID)
	}
	return nil
}

// carryOut makes the changes of a plan, one after the other. Somebody else's
// change stops it: what is left is for a new plan.
func carryOut(cmd *cobra.Command, s *store.Store, p *document.Plan, change registry.Change) error {
	progress := time.Now()
	for i, c := range p.Changes {
		if err := carry(cmd, s, c, change); err != nil {
			return partly(i, len(p.Changes), storeError(err))
		}
		if time.Since(progress) > time.Second {
			progress = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d\n", i+1, len(p.Changes))
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d changes are made\n", len(p.Changes))
	return err
}

func carry(cmd *cobra.Command, s *store.Store, c document.Change, change registry.Change) error {
	if c.Action == document.Remove {
		return s.Remove(cmd.Context(), c.Item, change)
	}
	own := c.Item.Audit()
	change.Reason, change.Ticket = or(own.Reason, change.Reason), or(own.Ticket, change.Ticket)
	if d, ok := c.Item.(*registry.Device); ok && d.State == registry.StateActive && d.Dates == (registry.Dates{}) {
		d.Dates.Approved, d.Dates.Activated, d.Approver = change.At, change.At, or(d.Approver, change.By)
	}
	c.Item.Audit().Stamp(change)
	return s.Put(cmd.Context(), c.Item)
}

// show prints a plan.
func (a *applying) show(cmd *cobra.Command, f *flags, p *document.Plan) error {
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), p)
	}
	w := &strings.Builder{}
	sign := map[document.Action]string{document.Add: "+", document.Modify: "~", document.Remove: "-"}
	for _, c := range p.Changes {
		fmt.Fprintf(w, "%s %s\n", sign[c.Action], visible(c.Entry))
		for _, f := range c.Fields {
			fmt.Fprintf(w, "    %s\n", visible(f.String()))
		}
	}
	for _, fault := range p.Faults {
		fmt.Fprintf(w, "x %s\n", visible(fault))
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(w, "The registry is as the file says.")
	}
	if n := len(p.File); n > 0 {
		fmt.Fprintf(w, "%d entries are left alone: they come from the configuration file.\n", n)
	}
	if n := len(p.Others); n > 0 {
		fmt.Fprintf(w, "%d entries of the registry are not in the file, and stay (--prune removes them).\n", n)
	}
	_, err := io.WriteString(cmd.OutOrStdout(), w.String())
	return err
}

func newRegistryLog(f *flags) *cobra.Command {
	since := ""
	c := withOutput(f, listings, &cobra.Command{
		Use:   "log",
		Short: "Who changed what in the registry, when and why",
		Long:  "List every change of the registry in the last 400 days.\n\n  postrider registry log --since 7d",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := pointInTime(since)
			if err != nil {
				return usage("--since %s: %w", since, err)
			}
			return withRegistry(cmd.Context(), f, func(s *store.Store, _ *registry.Snapshot) error {
				return history(cmd, f, s, from, ">")
			})
		},
	})
	c.Flags().StringVar(&since, "since", "", "since: a time, a date, or an age (24h, 7d)")
	return c
}
