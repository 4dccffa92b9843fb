package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newCredential(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "credential", Short: "Give devices names and secrets for AUTH"}
	c.AddCommand(newCredentialAdd(f), newCredentialRemove(f))
	return c
}

func newCredentialAdd(f *flags) *cobra.Command {
	device := ""
	c := &cobra.Command{
		Use:   "add NAME --device DEVICE",
		Short: "Make a credential; its secret is shown once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCredentialName(args[0]); err != nil {
				return err
			}
			if device == "" {
				return usage("say which device it stands for: --device NAME")
			}
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				d, err := findDevice(snapshot, device)
				if err != nil {
					return err
				}
				secret := registry.NewSecret()
				err = s.PutCredential(cmd.Context(), &registry.Credential{
					Name: args[0], Device: d.Name, Hash: registry.HashSecret(secret), CreatedAt: time.Now().UTC(), CreatedBy: actor(),
				})
				if err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "The secret of %s for %s, shown this once:\n", args[0], d.Name)
				fmt.Fprintln(cmd.OutOrStdout(), secret)
				return nil
			})
		},
	}
	c.Flags().StringVar(&device, "device", "", "the device it stands for")
	return c
}

// maxCredentialName is the longest name of a credential, in octets.
const maxCredentialName = 255

// checkCredentialName wants a name that a person can type into a device.
func checkCredentialName(name string) error {
	if name == "" || len(name) > maxCredentialName || visible(name) != name || strings.TrimSpace(name) != name {
		return usage("%q is no name for a credential (example: prn-3)", name)
	}
	return nil
}

func newCredentialRemove(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a credential",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				if _, ok := snapshot.Credential(args[0]); !ok {
					return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no credential is called %s", args[0])}
				}
				return storeError(s.DeleteCredential(cmd.Context(), args[0]))
			})
		},
	}
}
