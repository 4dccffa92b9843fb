package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/service"
)

func newInit() *cobra.Command {
	hostname, mode := "", ""
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented postrider.yaml, DKIM keys, and the DNS records to publish",
		Long:  "Write a commented postrider.yaml, a pair of DKIM keys, and the DNS records to publish into DIR. Nothing that exists is overwritten.\n\n  postrider init --hostname smtp-relay.campus.test /etc/postrider\n\nA relay may be for one way of sending only: direct is without a login, from the\ncampus to hosted domains; submission is with a login, from anywhere; connector is\nfrom registered addresses.\n\n  postrider init --mode connector --hostname smtp-relay.campus.test /etc/postrider",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hostname == "" {
				hostname = config.Defaults().Relay.Hostname
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			file := filepath.Join(dir, "postrider.yaml")
			if strings.ContainsAny(hostname, "\"\\\n\r") {
				return usage("--hostname %q: not a domain name", hostname)
			}
			if _, err := inMode(config.Template(hostname), mode); err != nil {
				return err
			}
			cfg, err := config.Parse(file, config.Template(hostname))
			if err != nil {
				return usage("--hostname %s: %w", hostname, err)
			}
			hostname = cfg.Relay.Hostname // as it is compared: lower case, A-labels
			switch _, err := os.Lstat(file); {
			case err == nil:
				return alreadyThere(file)
			case !errors.Is(err, os.ErrNotExist):
				return err
			}
			keys, err := signer.MakeKeys(filepath.Join(dir, "dkim"), hostname, time.Now())
			if err != nil {
				return err
			}
			template, err := inMode(config.Template(hostname), mode)
			if err != nil {
				return err
			}
			content := withKeys(template, keys)
			switch cfg, err := config.Parse(file, content); {
			case err != nil:
				return fmt.Errorf("check what is to be written: %w", err)
			case len(cfg.DKIM.Keys) != len(keys):
				return errors.New("check what is to be written: the template has no place for the keys")
			}
			if err := writeNew(file, content); err != nil {
				return err
			}
			records, err := os.ReadFile(filepath.Join(dir, "dkim", "dns.txt"))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `Wrote %s
Wrote %s (keep the .pem files secret)

Publish in the DNS:
%s%s. IN TXT "v=spf1 a -all"

Next: fill in networks, domains and listeners, then
  postrider config check --config %s
  postrider up --config %s
`, file, filepath.Join(dir, "dkim"), records, hostname, file, file)
			return nil
		},
	}
	c.Flags().StringVar(&hostname, "hostname", "", "the relay's own name (default: this machine's)")
	c.Flags().StringVar(&mode, "mode", "", "only one way of sending: direct, submission or connector (default: all)")
	return c
}

// writeNew writes a file that nobody wrote meanwhile.
func writeNew(file string, content []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if errors.Is(err, os.ErrExist) {
		return alreadyThere(file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func alreadyThere(file string) error {
	return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is there already; it is not overwritten", file)}
}

// withKeys names the made keys where the template has none.
func withKeys(template []byte, keys []config.DKIMKey) []byte {
	list := "  # Made by postrider init; dkim/dns.txt has the records to publish.\n  keys:\n"
	for _, k := range keys {
		list += fmt.Sprintf("    - {selector: %s, algorithm: %s, file: %q}\n", k.Selector, k.Algorithm, k.File)
	}
	return bytes.Replace(template, []byte("  #keys: []\n"), []byte(list), 1)
}
