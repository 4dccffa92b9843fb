package document

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// Action is what is done with an entry.
type Action string

// The actions of a plan.
const (
	Add    Action = "add"
	Modify Action = "change"
	Remove Action = "remove"
)

// Change is one entry that changes.
type Change struct {
	Action Action `json:"action"`
	// Entry is what people call it.
	Entry  string  `json:"entry"`
	Fields []Field `json:"fields,omitempty"`
	// Item is the entry as it is to be, at the revision that it was compared
	// with; for Remove as it is.
	Item registry.Item `json:"-"`
}

// Plan is what makes a registry into what a file says.
type Plan struct {
	// ID stands for all that the plan does, and for the state that it starts
	// from; empty where there is nothing to do.
	ID      string   `json:"plan,omitempty"`
	Changes []Change `json:"changes"`
	// File are entries of the file that the configuration file has: they are
	// left alone.
	File []string `json:"from_configuration,omitempty"`
	// Others are entries that the file does not list, and that stay.
	Others []string `json:"not_listed,omitempty"`
	// Faults keep the plan from being carried out.
	Faults []string `json:"faults,omitempty"`
}

// Options of Diff.
type Options struct {
	// Remove takes out what the file does not list, of the kinds that it names.
	Remove bool
	// AnyNetwork lets devices have addresses that their network speaks against.
	AnyNetwork bool
	// Wildcards lets senders be whole domains.
	Wildcards bool
	// Ticket is the number of one; some suspensions are lifted with it only (P30).
	Ticket string
}

// Diff compares a registry with a file.
func Diff(now registry.Entries, d *Document, o Options) (*Plan, error) {
	p := &Plan{Changes: []Change{}}
	have := map[string]registry.Item{}
	for item := range now.All() {
		have[item.Key()] = item
	}
	var after registry.Entries
	for _, kind := range kinds {
		for _, want := range itemsOf(&d.Entries, kind) {
			p.lifts(have[want.Key()], want, o.Ticket)
			kept, err := p.compare(have[want.Key()], want)
			if err != nil {
				return nil, err
			}
			after.Add(kept)
			delete(have, want.Key())
		}
	}
	for _, kind := range slices.Backward(kinds[:]) {
		for _, item := range itemsOf(&now, kind) {
			if have[item.Key()] == nil || p.rest(item, o.Remove && d.Kinds[kind]) {
				continue
			}
			after.Add(item)
			if d.Kinds[kind] && item.Audit().Origin != registry.OriginFile {
				p.Others = append(p.Others, item.String())
			}
		}
	}
	p.judge(after, o)
	p.ID = ID(p.Changes)
	return p, nil
}

// lifts finds a suspension that would end without the ticket that it takes.
func (p *Plan) lifts(is, want registry.Item, ticket string) {
	was, ok := is.(*registry.Device)
	if !ok || was.State != registry.StateSuspended || was.Suspension == nil || !was.Suspension.NeedsTicket || was.Origin == registry.OriginFile {
		return
	}
	if want.(*registry.Device).State == registry.StateSuspended || cmp.Or(want.Audit().Ticket, ticket) != "" {
		return
	}
	p.Faults = append(p.Faults, fmt.Sprintf("%s: state: it is suspended for %s, which a ticket lifts only; give its number (--ticket), or leave it suspended", was, was.Suspension.Cause))
}

// compare notes what differs, and returns the entry as it will be.
func (p *Plan) compare(is, want registry.Item) (registry.Item, error) {
	switch {
	case is == nil:
		fields, err := Fields(nil, want)
		p.Changes = append(p.Changes, Change{Add, want.String(), fields, want})
		return want, err
	case is.Audit().Origin == registry.OriginFile:
		p.File = append(p.File, want.String())
		return is, nil
	}
	keep(want, is)
	want.Audit().Revision = is.Audit().Revision
	fields, err := Fields(is, want)
	if err != nil || len(fields) == 0 {
		return is, err
	}
	p.Changes = append(p.Changes, Change{Modify, want.String(), fields, want})
	return want, nil
}

// rest decides on an entry that the file does not list: it reports that it goes.
func (p *Plan) rest(item registry.Item, remove bool) bool {
	if !remove || item.Audit().Origin == registry.OriginFile {
		return false
	}
	p.Changes = append(p.Changes, Change{Action: Remove, Entry: item.String(), Item: item})
	return true
}

// keep takes over what no person writes by hand, where the file is silent.
func keep(want, is registry.Item) {
	switch want := want.(type) {
	case *registry.Device:
		is := is.(*registry.Device)
		if want.Application == nil {
			want.Application = is.Application
		}
		if want.Suspension == nil && want.State == registry.StateSuspended {
			want.Suspension = is.Suspension
		}
		if want.Dates == (registry.Dates{}) {
			want.Dates = is.Dates
		}
		want.Told = later(is.Told, want.Told)
		want.Approver, want.Decision = cmp.Or(want.Approver, is.Approver), cmp.Or(want.Decision, is.Decision)
		for i, a := range want.Addresses {
			for _, had := range is.Addresses {
				if had.Range == a.Range && a.Since.IsZero() && (had.State == a.State || had.Active() && a.Active()) {
					want.Addresses[i] = had
				}
			}
		}
	case *registry.Credential:
		if want.Secrets == nil {
			want.Secrets = is.(*registry.Credential).Secrets
		}
	}
}

// later has the later time of each cause: what contacts heard since the file was
// written they need not hear again.
func later(is, want map[string]time.Time) map[string]time.Time {
	if is == nil {
		return want
	}
	told := maps.Clone(is)
	for cause, at := range want {
		if told[cause].Before(at) {
			told[cause] = at
		}
	}
	return told
}

// judge finds what the registry would not be sound with.
func (p *Plan) judge(after registry.Entries, o Options) {
	snapshot, claims := registry.NewSnapshot(0, after), claimsOf(after.Devices)
	for _, c := range p.Changes {
		if c.Action == Remove {
			continue
		}
		faults := c.Item.Faults()
		if o.Wildcards {
			faults = registry.WithoutWildcards(faults)
		}
		switch item := c.Item.(type) {
		case *registry.Device:
			if !item.State.Holds() {
				break
			}
			faults = append(faults, claims.rivals(item)...)
			if moved(c) && !o.AnyNetwork {
				faults = append(faults, snapshot.Misplaced(item)...)
			}
		case *registry.Credential:
			if _, ok := snapshot.Device(item.Device); !ok {
				faults = append(faults, registry.Fault{Field: "device", Text: "there is no device " + item.Device})
			}
		}
		for _, f := range faults {
			p.Faults = append(p.Faults, c.Entry+": "+f.String())
		}
	}
}

// claims are the devices that have a range for themselves.
type claims map[netip.Prefix][]string

func claimsOf(devices []*registry.Device) claims {
	out := claims{}
	for _, d := range devices {
		for _, a := range d.Addresses {
			if d.State.Holds() && a.Active() {
				out[a.Range] = append(out[a.Range], d.Name)
			}
		}
	}
	return out
}

// rivals are the others that have an address of a device.
func (c claims) rivals(d *registry.Device) (faults []registry.Fault) {
	for i, a := range d.Addresses {
		for _, name := range c[a.Range] {
			if name != d.Name {
				faults = append(faults, registry.Fault{Field: fmt.Sprintf("addresses[%d]", i), Text: a.String() + " belongs to " + name})
			}
		}
	}
	return faults
}

// moved reports a device that gets addresses, or must show another proof.
func moved(c Change) bool {
	return slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Name == "addresses" || f.Name == "proof" || f.Name == "state" })
}

// ID stands for changes: another change, or another state that they start from,
// has another. No changes have none.
func ID(changes []Change) string {
	if len(changes) == 0 {
		return ""
	}
	h := sha256.New()
	for _, c := range changes {
		fields, _ := json.Marshal(c.Fields) // strings
		fmt.Fprintf(h, "%s %s %d %s\n", c.Action, c.Item.Key(), c.Item.Audit().Revision, fields)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:10]
}

func items[T registry.Item](list []T) []registry.Item {
	out := make([]registry.Item, len(list))
	for i, item := range list {
		out[i] = item
	}
	return out
}
