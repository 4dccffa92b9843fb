package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/service"
)

// keyRow is one key of the relay.
type keyRow struct {
	Selector  string `json:"selector"`
	Domain    string `json:"domain"`
	Algorithm string `json:"algorithm"`
	Name      string `json:"name"`
	Record    string `json:"record"`
}

func newDKIM(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "dkim", Short: "Show the DKIM keys"}
	c.AddCommand(withOutput(f, listings, &cobra.Command{
		Use:   "ls",
		Short: "List the keys and the DNS records to publish",
		Long:  "List the keys the relay signs with, and the TXT records to publish. It reads the key files, so run it where the signer runs.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			l, err := newListing(f, cmd.OutOrStdout(), []string{"selector", "algorithm", "name", "record"}, func(k keyRow) []string {
				return []string{k.Selector, k.Algorithm, k.Name, k.Record}
			})
			if err != nil {
				return err
			}
			keys, err := keysOf(cfg)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if err := l.add(k); err != nil {
					return err
				}
			}
			return l.end()
		},
	}))
	return c
}

func keysOf(cfg *config.Config) ([]keyRow, error) {
	files := cfg.DKIM.Keys
	if len(files) == 0 {
		dir := filepath.Join(cfg.Relay.Data, "dkim")
		if _, err := os.Stat(dir); err != nil { // a listing makes no keys: they would be this user's
			return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no keys yet in %s; the signer makes them when it first starts", dir)}
		}
		var err error
		if files, err = signer.MakeKeys(dir, cfg.DKIM.Domain, time.Now()); err != nil {
			return nil, err
		}
	}
	var rows []keyRow
	for _, file := range files {
		key, err := signer.LoadKey(file.File)
		if err != nil {
			return nil, fmt.Errorf("read key of selector %s: %w", file.Selector, err)
		}
		record, err := key.Record()
		if err != nil {
			return nil, err
		}
		rows = append(rows, keyRow{file.Selector, cfg.DKIM.Domain, key.Algorithm, file.Selector + "._domainkey." + cfg.DKIM.Domain, record})
	}
	return rows, nil
}
