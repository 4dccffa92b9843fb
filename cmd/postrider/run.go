package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/service"
)

func newRun(f *flags) *cobra.Command {
	var names []string
	for _, s := range services() {
		names = append(names, s.Name)
	}
	return &cobra.Command{
		Use:       "run SERVICE...",
		Short:     "Run the named services against bus.url",
		Long:      "Run the named services in one process, against the NATS server at bus.url.\nOne that fails after it was ready is started again; the others go on.\n\nServices: " + strings.Join(names, " ") + "\n\n  postrider run delivery bounce",
		Args:      cobra.MinimumNArgs(1),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			var chosen []service.Service
			for _, name := range args {
				i := slices.Index(names, name)
				if i < 0 {
					return usage("no service is called %q; there are: %s", name, strings.Join(names, " "))
				}
				chosen = append(chosen, services()[i])
			}
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			return service.RunRemote(cmd.Context(), cfg, (*service.Group).Supervise, chosen...)
		},
	}
}
