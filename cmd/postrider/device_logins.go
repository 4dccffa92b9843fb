package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// loginUse is a device with how it shows who it is (X19).
type loginUse struct {
	Device string              `json:"device"`
	Owner  string              `json:"owner,omitempty"`
	State  registry.State      `json:"state"`
	Exempt *registry.Exemption `json:"exempt,omitempty"`
	// Exemption is yes, ended or no.
	Exemption string `json:"exemption"`
	// Credentials are those that it could log in with.
	Credentials []string   `json:"credentials,omitempty"`
	Recent      books.Sent `json:"recent"`
	Before      books.Sent `json:"before"`
}

func newDeviceLogins(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "logins [SELECTOR]",
		Short: "Who need not log in, or does not, and how that changes",
		Long: `List devices with the exemption that lets them send without a login, its reason
and its end, the credentials they have, and their messages by address and by
login: of the last 30 days, and of the 30 days before. Without a selector:
active devices that are exempt, and those that sent by their address only.

  postrider device logins
  postrider device logins exempt:yes owner:chem

` + deviceSelectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseDeviceSelector(args, len(args) == 0)
			if err != nil {
				return err
			}
			cfg, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			rows, err := loginUses(cmd.Context(), bus, cfg.FileEntries(), s)
			if err != nil {
				return err
			}
			if err := list(cmd, f, loginColumns, rows, loginUse.cells); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), loginTrend(rows))
			return nil
		},
	})
}

var loginColumns = []string{"device", "owner", "state", "exempt", "until", "reason", "credentials", "by_address", "by_login", "by_address_before", "by_login_before"}

func (u loginUse) cells() []string {
	until, reason := "", ""
	if e := u.Exempt; e != nil {
		reason = e.Reason
		if !e.Until.IsZero() {
			until = e.Until.Format(time.DateOnly)
		}
	}
	n := strconv.Itoa
	return []string{
		u.Device, u.Owner, string(u.State), u.Exemption, until, reason, n(len(u.Credentials)),
		n(u.Recent.ByAddress), n(u.Recent.ByLogin), n(u.Before.ByAddress), n(u.Before.ByLogin),
	}
}

// loginUses are the chosen devices; where nothing chooses, those that an operator
// would want to log in.
func loginUses(ctx context.Context, bus *queue.Bus, file registry.Entries, s *deviceSelector) ([]loginUse, error) {
	reg, err := store.Open(ctx, bus, file)
	if err != nil {
		return nil, err
	}
	snapshot, err := reg.Load(ctx)
	if err != nil {
		return nil, err
	}
	chosen, err := s.choose(snapshot)
	if err != nil {
		return nil, err
	}
	ways := map[string]books.Ways{}
	err = books.Client(bus).Ways(ctx, func(w books.Ways) error {
		ways[w.Device] = w
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", service.ErrUnreachable, err)
	}
	credentials := map[string][]string{}
	for _, c := range snapshot.Entries().Credentials {
		if !c.Suspended {
			credentials[c.Device] = append(credentials[c.Device], c.Name)
		}
	}
	var rows []loginUse
	for _, d := range chosen {
		w := ways[d.Name]
		u := loginUse{d.Name, d.Owner, d.State, d.Exempt, exemption(d), credentials[d.Name], w.Recent, w.Before}
		if !s.all || d.State == registry.StateActive && (u.Exemption == "yes" || u.Recent.ByAddress > 0 && u.Recent.ByLogin == 0) {
			rows = append(rows, u)
		}
	}
	return rows, nil
}

// exemption says whether a device need not log in where others must.
func exemption(d *registry.Device) string {
	switch {
	case d.Exempt == nil:
		return "no"
	case d.Exempt.Holds(time.Now()):
		return "yes"
	}
	return "ended"
}

// loginTrend is the sum of a report in words.
func loginTrend(rows []loginUse) string {
	exempt, could, recent, before := 0, 0, books.Sent{}, books.Sent{}
	for _, u := range rows {
		if u.Exemption == "yes" {
			exempt++
		}
		if len(u.Credentials) > 0 && u.Recent.ByLogin == 0 {
			could++
		}
		recent.ByAddress, recent.ByLogin = recent.ByAddress+u.Recent.ByAddress, recent.ByLogin+u.Recent.ByLogin
		before.ByAddress, before.ByLogin = before.ByAddress+u.Before.ByAddress, before.ByLogin+u.Before.ByLogin
	}
	return fmt.Sprintf("%d devices, %d of them exempt; %d have a credential that they do not use. In 30 days %d messages by address and %d by login; in the 30 days before %d and %d.",
		len(rows), exempt, could, recent.ByAddress, recent.ByLogin, before.ByAddress, before.ByLogin)
}
