package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/service"
)

func newInit() *cobra.Command {
	hostname := ""
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented postrider.yaml, DKIM keys, and the DNS records to publish",
		Long:  "Write a commented postrider.yaml, a pair of DKIM keys, and the DNS records to publish into DIR. Nothing that exists is overwritten.\n\n  postrider init --hostname smtp-relay.campus.test /etc/postrider",
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
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is there already; it is not overwritten", file)}
			}
			keys, err := signer.MakeKeys(filepath.Join(dir, "dkim"), hostname, time.Now())
			if err != nil {
				return err
			}
			if err := os.WriteFile(file, withKeys(config.Template(hostname), keys), 0o640); err != nil {
				return err
			}
			if _, err := config.Load(file); err != nil {
				return fmt.Errorf("check what was written: %w", err)
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
	return c
}

// withKeys appends the made keys to the template.
func withKeys(template []byte, keys []config.DKIMKey) []byte {
	template = append(template, "\n# Made by postrider init; dkim/dns.txt has the records to publish.\ndkim:\n  keys:\n"...)
	for _, k := range keys {
		template = fmt.Appendf(template, "    - {selector: %s, algorithm: %s, file: %q}\n", k.Selector, k.Algorithm, k.File)
	}
	return template
}
