package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newCredential(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "credential", Short: "Give devices names and secrets for AUTH"}
	c.AddCommand(newCredentialList(f), newCredentialAdd(f), newCredentialRotate(f),
		newCredentialSwitch(f, "suspend", "Stop a credential, and nothing else of its device", true),
		newCredentialSwitch(f, "resume", "Let a suspended credential send again", false),
		newCredentialRemove(f))
	return c
}

func findCredential(snapshot *registry.Snapshot, name string) (*registry.Credential, error) {
	c, ok := snapshot.Credential(name)
	if !ok {
		return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no credential is called %s; see: postrider credential ls", name)}
	}
	return registry.Clone(c)
}

// credentialRow is a credential without what only the relay needs.
type credentialRow struct {
	Name   string `json:"name"`
	Device string `json:"device"`
	// State is active, suspended, rotating, outside (an authority elsewhere checks
	// it) or void.
	State string `json:"state"`
	// Issuer is who made its secret, and ends it: the relay, or that authority.
	Issuer string `json:"issuer"`
	// Made is when the newest secret was made, Until when the last one ends.
	Made  *time.Time `json:"made"`
	Until *time.Time `json:"until"`
	By    string     `json:"changed_by"`
}

func newCredentialList(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls [DEVICE]",
		Short: "List credentials, without their secrets",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd.Context(), f, func(k *desk) error {
				now, rows := time.Now(), []credentialRow{}
				for _, c := range k.snapshot.Entries().Credentials {
					if len(args) == 0 || c.Device == deviceName(args[0]) {
						row := credentialRowOf(c, now)
						row.Issuer = issuer(&k.cfg.Auth, c)
						rows = append(rows, row)
					}
				}
				return list(cmd, f, []string{"credential", "device", "state", "issuer", "made", "until", "changed_by"}, rows, func(r credentialRow) []string {
					return []string{r.Name, r.Device, r.State, r.Issuer, dayOf(r.Made), dayOf(r.Until), r.By}
				})
			})
		},
	})
}

func dayOf(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func credentialRowOf(c *registry.Credential, now time.Time) credentialRow {
	r := credentialRow{Name: c.Name, Device: c.Device, State: "active", By: c.By}
	live := alive(c.Secrets, now)
	switch {
	case c.Suspended:
		r.State = "suspended"
	case len(c.Secrets) == 0:
		r.State = "outside"
	case len(live) == 0:
		r.State = "void"
	case len(live) > 1:
		r.State = "rotating"
	}
	for _, s := range c.Secrets {
		if r.Made == nil || s.Made.After(*r.Made) {
			r.Made, r.Until = &s.Made, nil
			if !s.Until.IsZero() {
				r.Until = &s.Until
			}
		}
	}
	return r
}

// issuer is who made the secret of a credential, as the configuration names it
// (P19).
func issuer(auth *config.Auth, c *registry.Credential) string {
	if len(c.Secrets) > 0 {
		return "relay"
	}
	var names []string
	if auth.Kerberos != nil {
		names = append(names, "kerberos "+auth.Kerberos.Realm)
	}
	if auth.LDAP != nil {
		for _, server := range auth.LDAP.Servers() {
			if u, err := url.Parse(server); err == nil {
				names = append(names, "directory "+u.Host)
			}
		}
	}
	if len(names) == 0 {
		return "elsewhere"
	}
	return strings.Join(names, " or ")
}

// alive are the secrets that have not ended.
func alive(secrets []registry.Secret, now time.Time) []registry.Secret {
	return slices.DeleteFunc(slices.Clone(secrets), func(s registry.Secret) bool { return !s.Until.IsZero() && !now.Before(s.Until) })
}

func newCredentialAdd(f *flags) *cobra.Command {
	var device, reason, ticket string
	outside := false
	c := &cobra.Command{
		Use:   "add NAME --device DEVICE",
		Short: "Make a credential; its secret is shown once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			made := registry.Change{By: actor(), Reason: or(reason, "made"), Ticket: ticket, At: time.Now().UTC()}
			c := &registry.Credential{Name: args[0]}
			if faults := c.Faults(); len(faults) > 0 {
				return usage("%s", faults[0].Text)
			}
			if device == "" {
				return usage("say which device it stands for: --device NAME")
			}
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				d, err := findDevice(snapshot, device)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(d.Senders, func(s string) bool { return strings.EqualFold(s, c.Name) }) { // S30
					return usage("%s is an address that the device sends as; a credential has a name of its own", c.Name)
				}
				if d.State == registry.StateRequested || d.State == registry.StateRetired { // S29
					return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is %s: credentials are given out once it is approved", d.Name, d.State)}
				}
				c.Device = d.Name
				secret := ""
				if !outside {
					secret = newSecret(c, made.At)
				}
				c.Stamp(made)
				if err := s.Put(cmd.Context(), c); err != nil {
					return storeError(err)
				}
				if outside {
					fmt.Fprintf(cmd.OutOrStdout(), "%s stands for %s; its secret is checked elsewhere\n", c.Name, d.Name)
					return nil
				}
				return showSecret(cmd, c, secret)
			})
		},
	}
	c.Flags().StringVar(&device, "device", "", "the device it stands for")
	c.Flags().BoolVar(&outside, "outside", false, "without a secret: an authority elsewhere checks it (Kerberos, LDAP)")
	recordFlags(c, &reason, &ticket)
	return c
}

// newSecret gives a credential one more secret.
func newSecret(c *registry.Credential, at time.Time) string {
	secret := registry.NewSecret()
	c.Secrets = append(c.Secrets, registry.Secret{Hash: registry.HashSecret(secret), Made: at})
	return secret
}

func showSecret(cmd *cobra.Command, c *registry.Credential, secret string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "The secret of %s for %s, shown this once:\n", c.Name, c.Device)
	_, err := fmt.Fprintln(cmd.OutOrStdout(), secret)
	return err
}

func newCredentialRotate(f *flags) *cobra.Command {
	var end, reason, ticket string
	atOnce := false
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a new secret, shown once; the one before holds for a while",
		Long:  "Make a new secret, shown once. The one before holds for 7 days, so that there is\ntime to enter the new one; with --now it ends at once.\n\n  postrider credential rotate prn-3 --end 30d",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now().UTC()
			until, err := moment(end, now)
			if err != nil || until.IsZero() {
				return usage("--end: %w", errors.Join(err, errors.New("a duration (7d) or a date is needed; at once is --now")))
			}
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				c, err := findCredential(snapshot, args[0])
				if err != nil {
					return err
				}
				if atOnce {
					until = now
				}
				secret, err := rotate(c, now, until)
				if err != nil {
					return err
				}
				c.Stamp(registry.Change{By: actor(), Reason: or(reason, "rotated"), Ticket: ticket, At: now})
				if err := s.Put(cmd.Context(), c); err != nil {
					return storeError(err)
				}
				if len(c.Secrets) > 1 {
					fmt.Fprintf(cmd.ErrOrStderr(), "The one before holds until %s.\n", until.Local().Format(time.DateTime))
				}
				return showSecret(cmd, c, secret)
			})
		},
	}
	c.Flags().StringVar(&end, "end", config.Duration(7*24*time.Hour).String(), "when the secret before ends: a duration or a date")
	c.Flags().BoolVar(&atOnce, "now", false, "end every secret before at once")
	recordFlags(c, &reason, &ticket)
	return c
}

// rotate gives a credential a second secret, and the first an end. A third there
// is not (S29).
func rotate(c *registry.Credential, now, until time.Time) (secret string, err error) {
	if len(c.Secrets) == 0 {
		return "", &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s has no secret here: an authority elsewhere checks it", c.Name)}
	}
	live := alive(c.Secrets, now)
	switch {
	case !until.After(now):
		live = nil
	case len(live) > 1:
		return "", &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is being rotated until %s; --now ends both secrets and makes a new one", c.Name, live[0].Until.Local().Format(time.DateTime))}
	}
	for i := range live {
		if live[i].Until.IsZero() || until.Before(live[i].Until) {
			live[i].Until = until
		}
	}
	c.Secrets = live
	return newSecret(c, now), nil
}

// newCredentialSwitch suspends or resumes credentials.
func newCredentialSwitch(f *flags, verb, short string, suspended bool) *cobra.Command {
	var reason, ticket string
	c := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				c, err := findCredential(snapshot, args[0])
				if err != nil {
					return err
				}
				now := map[bool]string{true: "suspended", false: "active"}
				if c.Suspended == suspended {
					return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is %s already", c.Name, now[suspended])}
				}
				c.Suspended = suspended
				c.Stamp(registry.Change{By: actor(), Reason: reason, Ticket: ticket, At: time.Now().UTC()})
				if err := s.Put(cmd.Context(), c); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", c.Name, now[suspended])
				return nil
			})
		},
	}
	recordFlags(c, &reason, &ticket)
	return c
}

func newCredentialRemove(f *flags) *cobra.Command {
	var reason, ticket string
	c := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a credential",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				c, err := findCredential(snapshot, args[0])
				if err != nil {
					return err
				}
				if err := s.Remove(cmd.Context(), c, registry.Change{By: actor(), Reason: or(reason, "removed"), Ticket: ticket, At: time.Now().UTC()}); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is removed; nobody logs in with it for %s any more\n", visible(c.Name), c.Device)
				return nil
			})
		},
	}
	recordFlags(c, &reason, &ticket)
	return c
}
