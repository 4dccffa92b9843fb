// Package review looks at registrations as an approver would, when they are asked
// for and daily.
//
// Consumes: the registry, the DNS, the directory, and port 25 of registered
// addresses. Produces: entries "review.<device>" of the registry, by the actor
// "review", with what was found:
//
//	sender-domain
//	             a domain that it sends as, and that is not hosted, allows it by a TXT
//	             record (S6, with policy.sender_proof)
//	spf          the SPF policy of a sender's domain includes the relay's (S31)
//	dmarc        mail of a From domain through this relay passes DMARC (W38)
//	sender       the address is in the directory (S5)
//	personal-sender
//	             it is there, and a person's (P31)
//	mail-server  a mail server answers at the address (W3, with lifecycle.probe): advice, since
//	             multifunction printers with internet fax do so, too
//	contact      a second contact, or a group, hears of trouble (M14)
//
// Guarantees: one process at a time does so (a lease). What cannot be found out is
// said to be in doubt. A device that was approved is activated when no finding speaks
// against it: only spf and sender-domain can, where policy.spf and
// policy.sender_proof enforce them; then a doubt waits, too. One that waits is looked
// at every ten minutes.
//
// Standards: RFC 7208 (§4.5, §4.6.4, §6.1), RFC 7489 (§3.1.1, §3.2, §6.6.3).
package review

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

const (
	// glance is how often a look is taken whether the registry has changed, and
	// period how often what is due is looked for without that.
	glance       = 2 * time.Second
	period       = time.Minute
	every        = 24 * time.Hour
	waiting      = 10 * time.Minute // for what only waits for a finding to be mended
	most         = 500              // reviews in a round
	abreast      = 16
	probeTimeout = 3 * time.Second
	actor        = "review"
)

// Reviewer reviews.
type Reviewer struct {
	Bus      *queue.Bus
	Registry *store.Store
	DNS      TXT
	// Directory is asked about senders; nil where there is none.
	Directory Directory
	Log       zerolog.Logger
	Instance  string
	// Signer is the domain that the relay signs for.
	Signer string
	// Include is the domain that SPF policies are to include; empty asks for none.
	// Enforce keeps who does not from being activated.
	Include string
	Enforce bool
	// SenderProof looks whether the domains that are not hosted allow it, and may
	// keep who has no proof from being activated.
	SenderProof authz.Mode
	// Probe looks for mail servers at the addresses.
	Probe bool
	// Port of mail servers, as delivery.mx_port; 0 is 25.
	Port uint16
}

// Run reviews until ctx ends, while this process holds the lease.
func (r *Reviewer) Run(ctx context.Context) error {
	return r.Bus.Lead(ctx, "review", r.Instance, func(ctx context.Context) {
		tick := time.NewTicker(glance)
		defer tick.Stop()
		var seen uint64
		var last time.Time
		for ctx.Err() == nil {
			if at := r.Registry.Snapshot().Revision; at != seen || time.Since(last) >= period {
				seen, last = at, time.Now()
				if err := r.round(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
					r.Log.Warn().Err(err).Msg("cannot review registrations")
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
}

// round reviews what is due, first what waits for it.
func (r *Reviewer) round(ctx context.Context, now time.Time) error {
	reg := r.Registry.Snapshot()
	var due []*registry.Device
	for _, d := range reg.Entries().Devices {
		old, _ := reg.Review(d.Name)
		if isDue(d, old, now) {
			due = append(due, d)
		}
	}
	slices.SortStableFunc(due, func(a, b *registry.Device) int { return rank(a) - rank(b) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	for _, d := range due[:min(len(due), most)] {
		old, _ := reg.Review(d.Name)
		group.Go(func() error { return r.one(ctx, d, old, now) })
	}
	return group.Wait()
}

func isDue(d *registry.Device, old *registry.Review, now time.Time) bool {
	switch d.State {
	case registry.StateRequested, registry.StateApproved, registry.StateActive:
	default:
		return false
	}
	again := every
	if d.State == registry.StateApproved {
		again = waiting
	}
	// A change of the registration asks for another look.
	return old == nil || now.Sub(old.At) >= again || d.At.After(old.At)
}

func rank(d *registry.Device) int {
	return slices.Index([]registry.State{registry.StateApproved, registry.StateRequested, registry.StateActive}, d.State)
}

// one reviews a device, and activates it if it waits for that.
func (r *Reviewer) one(ctx context.Context, d *registry.Device, old *registry.Review, now time.Time) error {
	findings := r.look(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v := &registry.Review{Device: d.Name, Findings: findings}
	if old != nil {
		v.Revision = old.Revision
		if !reflect.DeepEqual(old.Findings, findings) {
			r.Log.Info().Str("device", d.Name).Any("findings", findings).Msg("a review has changed")
		}
	}
	v.Stamp(registry.Change{By: actor, Reason: "daily look", At: now})
	err := r.Registry.Put(ctx, v)
	if err == nil && d.State == registry.StateApproved && !r.blocks(findings) {
		err = r.activate(ctx, d, now)
	}
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrDuplicate) || errors.Is(err, store.ErrFromFile) {
		return nil // somebody else changed it: the next round sees
	}
	return err
}

func (r *Reviewer) activate(ctx context.Context, d *registry.Device, now time.Time) error {
	active, err := registry.Clone(d)
	if err != nil {
		return err
	}
	active.State, active.Dates.Activated = registry.StateActive, now
	active.Stamp(registry.Change{By: actor, Reason: "approved, and nothing speaks against it", At: now})
	return r.Registry.Put(ctx, active)
}

// blocks reports a finding that keeps a device from being activated.
func (r *Reviewer) blocks(findings []registry.Finding) bool {
	enforced := map[string]bool{registry.CheckSPF: r.Enforce, registry.CheckSenderDomain: r.SenderProof == authz.Enforce}
	return slices.ContainsFunc(findings, func(f registry.Finding) bool { return enforced[f.Check] && !f.OK })
}

// look makes all findings about a device, in one order.
func (r *Reviewer) look(ctx context.Context, d *registry.Device) (out []registry.Finding) {
	if r.SenderProof == authz.Observe || r.SenderProof == authz.Enforce {
		for _, domain := range r.Registry.Snapshot().Unhosted(d) {
			out = append(out, r.proof(ctx, d, domain))
		}
	}
	envelope := domainsOf(d.Senders)
	spf := map[string]bool{}
	for _, domain := range envelope {
		if r.Include == "" {
			break
		}
		f := r.spf(ctx, domain)
		spf[domain] = f.OK
		out = append(out, f)
	}
	for _, domain := range domainsOf(append(slices.Clone(d.Senders), d.HeaderSenders...)) {
		out = append(out, r.dmarc(ctx, domain, spf[domain]))
	}
	out = append(out, r.senders(ctx, d)...)
	for _, a := range d.Addresses {
		if r.Probe && a.Active() && a.Range.IsSingleIP() {
			out = append(out, r.probe(ctx, a.Range.Addr()))
		}
	}
	if len(d.Contacts) < 2 {
		out = append(out, registry.Finding{Check: "contact", Text: "one contact at most; a group, or a second one, hears of trouble when the first is away"})
	}
	return out
}

// domainsOf are the domains of addresses, each once.
func domainsOf(addresses []string) (out []string) {
	for _, a := range addresses {
		out = append(out, strings.ToLower(a[strings.LastIndexByte(a, '@')+1:]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *Reviewer) spf(ctx context.Context, domain string) registry.Finding {
	found, lookups, err := includes(ctx, r.DNS, domain, r.Include)
	f := registry.Finding{Check: registry.CheckSPF, About: domain, OK: found && err == nil}
	switch {
	case err != nil:
		f.Text, f.Doubt = err.Error(), !errors.Is(err, errPolicy)
	case !found:
		f.Text = fmt.Sprintf("the SPF policy does not include %s; add include:%s", r.Include, r.Include)
	default:
		f.Text = fmt.Sprintf("includes %s, %d of %d lookups", r.Include, lookups, maxLookups)
	}
	return f
}

func (r *Reviewer) dmarc(ctx context.Context, domain string, spf bool) registry.Finding {
	f := registry.Finding{Check: "dmarc", About: domain}
	d, err := readDMARC(ctx, r.DNS, domain)
	switch {
	case err != nil:
		f.Text, f.Doubt = err.Error(), true
	case d.aligned(r.Signer, domain):
		f.OK, f.Text = true, "the signature of "+r.Signer+" is aligned"
	case spf:
		f.OK, f.Text = true, "SPF is aligned"
	case d.policy == "" || d.policy == "none":
		f.OK, f.Text = true, "neither SPF nor the signature of "+r.Signer+" is aligned; the domain asks for nothing"
	default:
		f.Text = fmt.Sprintf("receivers will %s it: neither SPF nor the signature of %s is aligned with it", d.policy, r.Signer)
	}
	return f
}

// probe looks whether a mail server greets at an address.
func (r *Reviewer) probe(ctx context.Context, a netip.Addr) registry.Finding {
	f := registry.Finding{Check: "mail-server", About: a.String(), OK: true, Text: "no mail server answers"}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	port := r.Port
	if port == 0 {
		port = 25
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
	if err != nil {
		return f
	}
	defer c.Close()
	if until, ok := ctx.Deadline(); ok {
		c.SetDeadline(until)
	}
	greeting, err := bufio.NewReaderSize(c, 512).ReadSlice('\n')
	if err == nil && strings.HasPrefix(string(greeting), "220") {
		f.OK, f.Text = false, "a mail server answers; one that delivers by itself is not registered (printers with internet fax answer, too)"
	}
	return f
}
