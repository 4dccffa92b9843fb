package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/notice"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

// published is the list of the addresses at which clients reach the relay (S32).
type published struct {
	Relay string `json:"relay"`
	// Version changes with the list.
	Version   string           `json:"version"`
	AsOf      string           `json:"as_of"` // a day
	Addresses []config.Ingress `json:"addresses"`
	// Next is what changes next.
	Next *config.AddressChange `json:"next_change,omitempty"`
	Help []string              `json:"help"`
}

func publishedBy(cfg *config.Config, now time.Time) *published {
	today := now.Format(time.DateOnly)
	list := cfg.Relay.Published(today)
	return &published{
		Relay: cfg.Relay.Hostname, Version: config.VersionOf(list), AsOf: today, Addresses: list, Next: config.NextChange(list, today),
		Help: notice.Help(cfg.Relay),
	}
}

func newAddresses(f *flags) *cobra.Command {
	return withOutput(f, answers, &cobra.Command{
		Use:   "addresses",
		Short: "The addresses of the relay, for the firewalls of its clients",
		Long: `Print the list of addresses at which clients reach the relay, as relay.addresses
in the configuration has them: each once, with the days on which one comes or
goes, and a version that changes with the list. Publish it where owners look:

  postrider addresses -o json > /var/www/relay-addresses.json

Owners are told before it changes: postrider notify addresses --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			p := publishedBy(cfg, time.Now())
			if len(p.Addresses) == 0 {
				return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no addresses are published; list them in the configuration: relay.addresses")}
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), p)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ADDRESS\tFROM\tUNTIL")
			for _, a := range p.Addresses {
				fmt.Fprintf(w, "%s\t%s\t%s\n", a.Address, dash(a.From), dash(a.Until))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s, version %s of %s\n", p.Relay, p.Version, p.AsOf)
			return w.Flush()
		},
	})
}

func newNotifyAddresses(f *flags) *cobra.Command {
	o := &notifyOptions{}
	c := withOutput(f, answers, &cobra.Command{
		Use:   "addresses SELECTOR",
		Short: "Tell contacts of the next change of the relay's addresses",
		Long:  "Tell the contacts of the chosen devices which addresses of the relay come and go\nnext, and on which day, so that they change their firewalls before. See: postrider\naddresses.\n\n  postrider notify addresses --all\n  postrider notify addresses --all --group mailrelay.updates --yes\n\n" + deviceSelectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			p := publishedBy(cfg, time.Now())
			if p.Next == nil {
				return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no change of the addresses is planned; give an address its day in the configuration: relay.addresses")}
			}
			n := &o.notice
			n.Subject, n.Text, n.Effective = p.Relay+": its addresses change on "+p.Next.Day, p.announcement(), p.Next.Day
			n.ID = cmp.Or(n.ID, p.noticeID())
			return o.run(cmd, f, args)
		},
	})
	o.flags(c)
	return c
}

// noticeID is the name of the notice of the next change.
func (p *published) noticeID() string { return "addresses-" + p.Next.Day + "-" + p.Version[:6] }

// announcement is the text of that notice.
func (p *published) announcement() string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "The addresses of the mail relay %s change on %s.\n\n", p.Relay, p.Next.Day)
	for _, a := range p.Next.Begins {
		fmt.Fprintf(w, "Comes:    %s\n", a)
	}
	for _, a := range p.Next.Ends {
		fmt.Fprintf(w, "Goes:     %s\n", a)
	}
	fmt.Fprintf(w, "\nPlease open the firewalls between your devices and the relay before that day.\nThe whole list, version %s:\n\n", p.Version)
	for _, a := range p.Addresses {
		days := ""
		if a.From != "" {
			days += "  from " + a.From
		}
		if a.Until != "" {
			days += "  until " + a.Until
		}
		fmt.Fprintf(w, "          %s%s\n", a.Address, days)
	}
	return w.String()
}

// untold says that addresses will change and that nobody was told; empty for
// nothing to say.
func untold(cfg *config.Config, reg *registry.Snapshot, now time.Time) string {
	p := publishedBy(cfg, now)
	if p.Next == nil {
		return ""
	}
	for _, n := range reg.Entries().Notices {
		if n.Effective == p.Next.Day {
			return ""
		}
	}
	return fmt.Sprintf("addresses of the relay change on %s, and nobody was told: postrider notify addresses --all", p.Next.Day)
}
