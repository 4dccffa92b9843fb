package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// asking asks what ingress asks: the same function, the same rules, and the
// registry as it is now.
type asking struct {
	cfg   *config.Config
	bus   *queue.Bus
	store *store.Store
	reg   *registry.Snapshot
	rules *authz.Rules
}

// withAsking runs do with the registry as it is now.
func withAsking(ctx context.Context, f *flags, do func(*asking) error) error {
	return withDesk(ctx, f, func(k *desk) error {
		return do(&asking{cfg: k.cfg, bus: k.bus, store: k.store, reg: k.snapshot, rules: k.cfg.Rules()})
	})
}

// nameWait is how long a decision may wait for the DNS, as in ingress.
const nameWait = 5 * time.Second

// lookUp finds the client's name as ingress does, where a rule asks for it.
func (a *asking) lookUp(ctx context.Context, f *authz.Facts) error {
	if a.rules.FCrDNS == authz.Off || a.rules.FCrDNS == "" || a.rules.Sandbox {
		return nil
	}
	var servers []string
	if a.cfg.DNS.Resolver != "" {
		servers = []string{a.cfg.DNS.Resolver}
	}
	resolver, err := dnsx.New(dnsx.Config{Servers: servers})
	if err != nil {
		return fmt.Errorf("open resolver: %w", err)
	}
	defer resolver.Close()
	wait, stop := context.WithTimeout(ctx, nameWait)
	defer stop()
	names, err := resolver.ForwardConfirmed(wait, f.Address)
	f.Name = authz.NameOf(a.reg, f.Address, names)
	f.NameDoubt = f.Name == "" && (dnsx.Temporary(err) || wait.Err() != nil)
	return ctx.Err()
}

// opinion is a decision for people: what, why, what to do, and who can.
type opinion struct {
	Outcome authz.Outcome `json:"outcome"`
	// Stage is the command at which it is answered: mail, rcpt, data.
	Stage     string `json:"stage,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	// Reply is the whole line.
	Reply    string   `json:"reply"`
	Rule     string   `json:"rule"`
	About    string   `json:"about,omitempty"`
	Switch   string   `json:"switch,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Observed []string `json:"observed,omitempty"`
	Device   string   `json:"device,omitempty"`
	Owner    string   `json:"owner,omitempty"`
	// Nearest says what is registered and nearly that.
	Nearest []string `json:"nearest,omitempty"`
	// Fix is what the sender can do, Commands what the operator can type.
	Fix      []string `json:"fix,omitempty"`
	Commands []string `json:"commands,omitempty"`
	Who      []string `json:"who,omitempty"`
}

// shownRef stands in a reply that nobody was given: nothing has this reference.
const shownRef = mail.Ref("XXXX-XXXX")

// passes reports that the mail is accepted.
func (o *opinion) passes() bool { return o.Outcome == authz.Admit || o.Outcome == authz.Hold }

// decide asks as ingress does at a stage of the conversation: at MAIL only what
// no recipient changes is answered.
func (a *asking) decide(f *authz.Facts, stage string) *opinion {
	v := authz.Decide(a.rules, a.reg, f)
	if stage == "mail" && !v.Passes() && !authz.Early(v.Rule) {
		v = authz.Verdict{Outcome: authz.Admit, Rule: "mail", Reason: "what stops it is said at RCPT", Observed: v.Observed, Device: v.Device, Owner: v.Owner}
	}
	o := &opinion{
		Outcome: v.Outcome, Stage: stage, Rule: v.Rule, Reason: v.Reason, Observed: v.Observed, Device: v.Device, Owner: v.Owner,
		Reply: map[string]string{"mail": "250 2.1.0 Sender OK", "rcpt": "250 2.1.5 Recipient OK", "data": "250 2.0.0 queued as ID"}[stage],
	}
	if f.Recipient != nil {
		o.Recipient = f.Recipient.String()
	}
	if rule, ok := ruleNamed(v.Rule); ok {
		o.About, o.Switch = rule.About, rule.Switch
	}
	if !v.Passes() {
		o.Reply = shownRef.Refused(v.Reply, a.cfg.Relay.Help()).String()
		a.advise(o, f)
	}
	return o
}

func ruleNamed(name string) (authz.Rule, bool) {
	list := authz.Catalog()
	i := slices.IndexFunc(list, func(r authz.Rule) bool { return r.Name == name })
	if i < 0 {
		return authz.Rule{}, false
	}
	return list[i], true
}

// who can do something about it: those of the device, then the relay's.
func (a *asking) who(device string) (who []string) {
	if d, ok := a.reg.Device(device); ok {
		contacts := d.Contacts
		if o, ok := a.reg.Owner(d.Owner); ok && len(contacts) == 0 {
			contacts = o.Contacts
		}
		line := strings.TrimSpace("the owner " + d.Owner)
		if len(contacts) > 0 {
			line = strings.TrimSuffix(line+": "+strings.Join(contacts, ", "), ": ")
		}
		if d.Owner != "" || len(contacts) > 0 {
			who = append(who, line)
		}
	}
	if a.cfg.Relay.HelpURL != "" {
		who = append(who, a.cfg.Relay.HelpURL)
	}
	return append(who, a.cfg.Relay.Contact())
}

// listenerNamed is the listener to ask for: the one of that name, or the first
// of mode relay, or the first.
func (a *asking) listenerNamed(name string) (config.Listener, error) {
	var names []string
	for _, l := range a.cfg.Listeners {
		if l.Name == name || name == "" && l.Mode == config.ModeRelay {
			return l, nil
		}
		names = append(names, l.Name)
	}
	if name == "" && len(a.cfg.Listeners) > 0 {
		return a.cfg.Listeners[0], nil
	}
	return config.Listener{}, usage("no listener is called %q; there are: %s", name, strings.Join(names, ", "))
}

// portOf is the port of a listener by its name, for people.
func (a *asking) portOf(listener string) string {
	for _, l := range a.cfg.Listeners {
		if _, port, err := net.SplitHostPort(l.Address); l.Name == listener && err == nil {
			return port
		}
	}
	return ""
}

// parseAddr reads an address as the relay compares it.
func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(s), "[]"))
	return addr.Unmap().WithZone(""), err
}
