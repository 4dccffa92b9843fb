package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/services/policy/lifecycle"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/registry/translate"
	"github.com/postrider/postrider/shared/service"
)

// importPlan is what an import would do, or did.
type importPlan struct {
	// ID stands for all that would be done; empty: nothing.
	ID    string `json:"plan,omitempty"`
	Kind  string `json:"kind"`
	Input string `json:"input"`
	Done  bool   `json:"done"`
	// Added and Changed are entries by what people call them; Same are equal in
	// the registry, and Refused cannot be taken.
	Added    []string        `json:"added"`
	Changed  []importChange  `json:"changed"`
	Same     int             `json:"same"`
	Refused  []importRefusal `json:"refused"`
	Failed   []importRefusal `json:"failed,omitempty"`
	Fragment string          `json:"fragment"`
	// Lines is the account of the input.
	Lines []translate.Line `json:"lines"`

	entries registry.Entries
	todo    []registry.Item
}

type importChange struct {
	Entry string `json:"entry"`
	From  string `json:"from"`
	To    string `json:"to"`
}

type importRefusal struct {
	Entry string `json:"entry"`
	Why   string `json:"why"`
}

// compareImport makes the plan: what of the result the registry has, and what not.
func compareImport(kind, input string, r *translate.Result, snapshot *registry.Snapshot) *importPlan {
	p := &importPlan{
		Kind: kind, Input: input, Fragment: r.Hints.YAML(), Lines: r.Lines, entries: r.Entries,
		Added: []string{}, Changed: []importChange{}, Refused: []importRefusal{},
	}
	live := map[string]registry.Item{}
	now := snapshot.Entries()
	for item := range now.All() {
		live[item.Key()] = item
	}
	id := sha256.New()
	for item := range r.Entries.All() {
		had := live[item.Key()]
		if err := checkImport(item, snapshot); err != nil {
			p.Refused = append(p.Refused, importRefusal{item.String(), err.Error()})
			continue
		}
		if had != nil {
			keep(item, had)
			item.Audit().Revision = had.Audit().Revision
		}
		before, after := bare(had), bare(item)
		switch {
		case had == nil:
			p.Added = append(p.Added, item.String())
		case bytes.Equal(before, after):
			p.Same++
			continue
		case had.Audit().Origin == registry.OriginFile:
			p.Refused = append(p.Refused, importRefusal{item.String(), "the configuration file has it, and says otherwise: change it there"})
			continue
		default:
			p.Changed = append(p.Changed, importChange{item.String(), string(before), string(after)})
		}
		p.todo = append(p.todo, item)
		fmt.Fprintf(id, "%s %d %s\n", item.Key(), item.Audit().Revision, after)
	}
	if len(p.todo) > 0 {
		p.ID = strings.ToLower(base32.StdEncoding.EncodeToString(id.Sum(nil)))[:10]
	}
	return p
}

// checkImport holds an entry to the rules of those that commands make.
func checkImport(item registry.Item, snapshot *registry.Snapshot) error {
	d, ok := item.(*registry.Device)
	if !ok {
		return nil
	}
	if err := checkDevice(d, false); err != nil {
		return err
	}
	if rival, taken := snapshot.Rival(d); taken {
		return fmt.Errorf("an address of it belongs to %s, which is %s", rival.Name, rival.State)
	}
	return nil
}

// bare is an entry without what it says of its last change.
func bare(item registry.Item) []byte {
	if item == nil {
		return nil
	}
	value, err := json.Marshal(item)
	if err != nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return value
	}
	for _, name := range []string{"origin", "changed_at", "changed_by", "reason", "ticket"} {
		delete(fields, name)
	}
	value, _ = json.Marshal(fields)
	return value
}

// keep gives an entry what the registry knows and the input does not say.
func keep(item, had registry.Item) {
	switch item := item.(type) {
	case *registry.Device:
		keepDevice(item, had.(*registry.Device))
	case *registry.Credential:
		had := had.(*registry.Credential)
		item.Secrets, item.Suspended = had.Secrets, had.Suspended
	case *registry.Domain:
		had := had.(*registry.Domain)
		item.Internal = had.Internal
		fill(&item.Route, had.Route)
	case *registry.Block:
		item.Until = had.(*registry.Block).Until
	case *registry.Network:
		fill(&item.Note, had.(*registry.Network).Note)
	}
}

func keepDevice(d, had *registry.Device) {
	d.State, d.Suspension, d.Dates, d.Application = had.State, had.Suspension, had.Dates, had.Application
	d.Approver, d.Decision, d.Told = had.Approver, had.Decision, had.Told
	fill(&d.FollowDNS, had.FollowDNS)
	fill(&d.Owner, had.Owner)
	fill(&d.Traffic, had.Traffic)
	fill(&d.Proof, had.Proof)
	fill(&d.Limits, had.Limits)
	fill(&d.Exempt, had.Exempt)
	fill(&d.PHI, had.PHI)
	if d.Class == mail.ClassDefault {
		d.Class = had.Class
	}
	for own, theirs := range map[*[]string][]string{&d.Contacts: had.Contacts, &d.Senders: had.Senders, &d.HeaderSenders: had.HeaderSenders} {
		if len(*own) == 0 {
			*own = theirs
		}
	}
	if d.Quirks.None() {
		d.Quirks = had.Quirks
	}
	for i, a := range d.Addresses {
		for _, theirs := range had.Addresses {
			if theirs.Range == a.Range {
				d.Addresses[i] = theirs
			}
		}
	}
}

// fill fills in a value that is not given.
func fill[T comparable](own *T, otherwise T) {
	var none T
	if *own == none {
		*own = otherwise
	}
}

// importers is how many changes are on their way at a time: they share the time
// of a sync.
const importers = 64

// apply stores what is to do, and tells how far it is. What fails is in Failed.
func (p *importPlan) apply(ctx context.Context, s *store.Store, progress io.Writer) error {
	made := change("imported from " + p.Kind + " " + p.Input)
	work := make(chan registry.Item)
	var mu sync.Mutex
	var workers sync.WaitGroup
	done, told := 0, time.Now()
	for range importers {
		workers.Go(func() {
			for item := range work {
				err := putImport(ctx, s, item, made)
				mu.Lock()
				done++
				if err != nil {
					p.Failed = append(p.Failed, importRefusal{item.String(), err.Error()})
				}
				if time.Since(told) > time.Second || done == len(p.todo) {
					told = time.Now()
					fmt.Fprintf(progress, "%d of %d entries\n", done, len(p.todo))
				}
				mu.Unlock()
			}
		})
	}
	for _, item := range p.todo {
		if ctx.Err() != nil {
			break
		}
		work <- item
	}
	close(work)
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted after %d of %d entries; import again to go on: %w", done-len(p.Failed), len(p.todo), err)
	}
	p.Done = len(p.Failed) == 0
	if len(p.Failed) > 0 {
		return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("%d of %d entries were not stored; import again", len(p.Failed), len(p.todo))}
	}
	return nil
}

// putImport stores one entry. What comes new and active has been active from now
// on. It was elsewhere before, and its contacts, maybe one for thousands, did not
// ask: they are not told of each device that it may send.
func putImport(ctx context.Context, s *store.Store, item registry.Item, made registry.Change) error {
	if d, ok := item.(*registry.Device); ok && item.Audit().Revision == 0 {
		d.Dates.Activated = made.At
		d.Told = map[string]time.Time{string(lifecycle.Activated): made.At}
		for _, a := range d.Addresses {
			d.Told[string(lifecycle.Confirmed(a))] = made.At
		}
		if d.Suspension != nil {
			d.Suspension.At = made.At
		}
	}
	item.Audit().Stamp(made)
	err := s.Put(ctx, item)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrDuplicate) {
		return fmt.Errorf("%w: somebody else changes it", err)
	}
	return err
}

// document is the registry document of the result.
func (p *importPlan) document() map[string]any {
	e := p.entries
	out := map[string]any{}
	for kind, list := range map[string]any{
		"devices": e.Devices, "credentials": e.Credentials, "domains": e.Domains, "networks": e.Networks, "blocks": e.Blocks,
	} {
		if text, err := json.Marshal(list); err == nil && string(text) != "null" {
			out[kind] = list
		}
	}
	return out
}

// printed is how many entries or lines of one kind a plan shows.
const printed = 20

// print shows the plan for people.
func (p *importPlan) print(out io.Writer) error {
	w := &strings.Builder{}
	counts := map[translate.Fate]int{}
	for _, l := range p.Lines {
		counts[l.Fate]++
	}
	fmt.Fprintf(w, "%s %s: %d devices, %d credentials, %d domains, %d networks, %d blocks\n", p.Kind, visible(p.Input), len(p.entries.Devices),
		len(p.entries.Credentials), len(p.entries.Domains), len(p.entries.Networks), len(p.entries.Blocks))
	fmt.Fprintf(w, "input: %d translated, %d without meaning here, %d untranslated\n", counts[translate.Translated], counts[translate.Meaningless], counts[translate.Untranslated])
	fmt.Fprintf(w, "registry: %d to add, %d to change, %d the same, %d refused\n", len(p.Added), len(p.Changed), p.Same, len(p.Refused))
	some(w, "\nAdd:", p.Added, func(s string) string { return "+ " + s })
	some(w, "\nChange:", p.Changed, func(c importChange) string { return "~ " + c.Entry + "\n    from " + c.From + "\n    to   " + c.To })
	some(w, "\nRefused:", p.Refused, func(r importRefusal) string { return "x " + r.Entry + ": " + r.Why })
	some(w, "\nNot stored:", p.Failed, func(r importRefusal) string { return "x " + r.Entry + ": " + r.Why })
	p.printUntranslated(w)
	fmt.Fprintf(w, "\nConfiguration:\n%s", indent(p.Fragment))
	switch {
	case p.Done:
		fmt.Fprintf(w, "\n+ It is done. Contacts were not told; to tell each of all its devices at once: postrider notify\n")
	case len(p.Failed) > 0:
		fmt.Fprintf(w, "\nx It is done in part: %d of %d entries are stored. To go on, import again, without --confirm first.\n", len(p.todo)-len(p.Failed), len(p.todo))
	case p.ID == "":
		fmt.Fprintf(w, "\n+ Nothing to do: the registry has all of it.\n")
	default:
		fmt.Fprintf(w, "\nPlan %s. To do it, give the same command with\n  --confirm %s\n", p.ID, p.ID)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

// some shows the beginning of a list.
func some[T any](w io.Writer, title string, list []T, show func(T) string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for i, e := range list {
		if i == printed {
			fmt.Fprintf(w, "  and %d more (-o json)\n", len(list)-printed)
			return
		}
		for line := range strings.SplitSeq(show(e), "\n") {
			fmt.Fprintln(w, "  "+visible(line))
		}
	}
}

// printUntranslated groups the lines by what is to be done about them.
func (p *importPlan) printUntranslated(w io.Writer) {
	type reason struct{ why, do string }
	var order []reason
	lines := map[reason][]translate.Line{}
	for _, l := range p.Lines {
		if l.Fate != translate.Untranslated {
			continue
		}
		r := reason{l.Why, l.Do}
		if lines[r] == nil {
			order = append(order, r)
		}
		lines[r] = append(lines[r], l)
	}
	if len(order) > 0 {
		fmt.Fprintln(w, "\nUntranslated:")
	}
	for _, r := range order {
		fmt.Fprintf(w, "  x %s\n    do: %s\n", visible(r.why), visible(r.do))
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for i, l := range lines[r] {
			if i == 3 {
				fmt.Fprintf(table, "    and %d more (-o json)\n", len(lines[r])-i)
				break
			}
			fmt.Fprintf(table, "    %s\t%s\n", visible(origin(l)), visible(l.Text))
		}
		table.Flush()
	}
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}
