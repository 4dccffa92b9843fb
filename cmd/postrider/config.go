package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/service"
)

func newConfig(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check the configuration"}
	c.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Read the configuration and say what is wrong with it",
		Long:  "Read the configuration, say what is wrong with it (exit 2) and what this release will not do (warnings, exit 0).\n\n  postrider config check --config /etc/postrider/postrider.yaml",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w.String())
			}
			name := cfg.Path
			if cfg.Sandbox {
				name = "no configuration file: the sandbox"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
			return nil
		},
	})
	return c
}
