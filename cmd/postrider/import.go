package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/registry/translate"
	"github.com/postrider/postrider/shared/service"
)

// importing is one use of "device import".
type importing struct {
	options translate.Options
	hosts   string
	observe bool
	confirm string
	out     string
}

func newDeviceImport(f *flags) *cobra.Command {
	i := &importing{}
	c := withOutput(f, answers, &cobra.Command{
		Use:   "import postfix|exchange|csv|yaml PATH",
		Short: "Bring registrations from elsewhere, with a plan first",
		Long: `Translate what another relay knows about its senders, compare it with the
registry, and show what would be added and changed, and what did not translate.
Nothing changes before the plan is confirmed by its id.

  postfix   a copy of /etc/postfix: main.cf, master.cf and the sources of the tables
  exchange  Get-ReceiveConnector | Export-Clixml connectors.xml (or JSON, CSV, Format-List)
  csv       a table with a device in each row; columns as in the configuration
  yaml      the sections devices, domains and networks of a configuration

Every line of the input is accounted for: -o json shows all of them. A device that
is in the registry keeps what the input does not say, and its state.

The rules of authorization are not changed. --observe writes a fragment in which
those that the input did not have stand on observe, so that real traffic shows
whom they would hit before they are enforced.`,
		Example: "  postrider device import postfix ./etc-postfix --hosts hosts.txt --out plan\n  postrider device import postfix ./etc-postfix --hosts hosts.txt --confirm PLAN-ID",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := i.translate(args[0], args[1])
			if err != nil {
				return err
			}
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				return i.run(cmd, f, s, compareImport(args[0], args[1], result, snapshot))
			})
		},
	})
	flags := c.Flags()
	flags.StringVar(&i.options.Domain, "domain", "", "`domain` of names that are made up (host-10-2-3-4.DOMAIN); default: that of the input")
	flags.StringVar(&i.hosts, "hosts", "", "`file` with the names of addresses, as /etc/hosts or from the reverse zones")
	flags.StringVar(&i.options.Dir, "was-in", "", "`directory` in which the Postfix files lay, if not /etc/postfix")
	flags.StringSliceVar(&i.options.Anywhere, "anywhere", nil, "Exchange `connector` whose anonymous clients may send to anybody (repeatable)")
	flags.BoolVar(&i.observe, "observe", false, "have the fragment put new rules on observe")
	flags.StringVar(&i.confirm, "confirm", "", "carry out the plan with this `id`")
	flags.StringVar(&i.out, "out", "", "write registry.json, postrider-fragment.yaml and untranslated.txt into this new `directory`")
	return c
}

// translate reads the input.
func (i *importing) translate(kind, path string) (*translate.Result, error) {
	if i.hosts != "" {
		file, err := os.Open(i.hosts)
		if err != nil {
			return nil, usage("--hosts: %w", err)
		}
		defer file.Close()
		if i.options.Names, err = translate.ReadHosts(i.hosts, file); err != nil {
			return nil, usage("--hosts: %w", err)
		}
	}
	result, err := i.read(kind, path)
	if errors.Is(err, translate.ErrNoDomain) {
		return nil, usage("%w: --domain devices.campus.test", err)
	}
	if err != nil {
		return nil, usage("%w", err)
	}
	result.Hints.Observe = i.observe
	return result, nil
}

func (i *importing) read(kind, path string) (*translate.Result, error) {
	if kind == "postfix" {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory; give the copy of /etc/postfix", path)
		}
		if err != nil {
			return nil, err
		}
		if i.options.Dir == "" {
			i.options.Dir, _ = filepath.Abs(path) // a directory that still lies where it was
		}
		return translate.Postfix(os.DirFS(path), i.options)
	}
	reads := map[string]func(string, io.Reader, translate.Options) (*translate.Result, error){
		"exchange": translate.Exchange, "csv": translate.CSV, "yaml": translate.YAML,
	}
	if reads[kind] == nil {
		return nil, fmt.Errorf("%q is none of postfix, exchange, csv, yaml", kind)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return reads[kind](filepath.Base(path), file, i.options)
}

// run shows the plan, or carries it out.
func (i *importing) run(cmd *cobra.Command, f *flags, s *store.Store, p *importPlan) error {
	if i.confirm != "" && i.confirm != p.ID {
		if p.ID == "" {
			return &service.Exit{Code: service.ExitConflict, Err: errors.New("there is nothing to do any more: the registry has all of it")}
		}
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("plan %s is not what would be done now: input or registry have changed; read plan %s", i.confirm, p.ID)}
	}
	if i.out != "" {
		if err := writeImport(i.out, p); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "written: "+i.out)
	}
	var failed error
	if i.confirm != "" {
		failed = p.apply(cmd.Context(), s, cmd.ErrOrStderr())
	}
	if f.output == "json" {
		return errors.Join(failed, printJSON(cmd.OutOrStdout(), p))
	}
	return errors.Join(failed, p.print(cmd.OutOrStdout()))
}

// writeImport writes the documents of a plan into a new directory.
func writeImport(dir string, p *importPlan) error {
	if err := os.Mkdir(dir, 0o750); err != nil {
		return usage("--out: %w", err)
	}
	document := &strings.Builder{}
	if err := printJSON(document, p.document()); err != nil {
		return err
	}
	list := &strings.Builder{}
	for _, l := range p.Lines {
		if l.Fate == translate.Untranslated {
			fmt.Fprintf(list, "%s\n    %s\n    why: %s\n    do: %s\n", origin(l), l.Text, l.Why, l.Do)
		}
	}
	for name, text := range map[string]string{
		"registry.json": document.String(), "postrider-fragment.yaml": p.Fragment, "untranslated.txt": list.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// origin is the place of a line.
func origin(l translate.Line) string {
	if l.First == 0 {
		return l.File
	}
	return fmt.Sprintf("%s:%d", l.File, l.First)
}
