package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// termsAbreast is how many contacts one notice of new terms has: what one entry of
// the registry holds, with the devices of each.
const termsAbreast = 500

// newTerms are the notices that other terms of use hold now, to the contacts of
// devices for which others were accepted (W11): one to each contact, whatever
// number of devices are his. A version is told of once, and ends nothing: who has
// not accepted it is listed.
func newTerms(reg *registry.Snapshot, rules *Rules, now time.Time) (out []*registry.Notice) {
	if rules.Terms == "" {
		return nil
	}
	id := "terms-" + strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-", r) {
			return r
		}
		return '-'
	}, strings.ToLower(rules.Terms))
	if _, told := reg.Notice(id); told {
		return nil
	}
	outdated := slices.DeleteFunc(reg.Entries().Devices, func(d *registry.Device) bool {
		return d.Origin == registry.OriginFile || d.State != registry.StateActive || d.AcceptedTerms() == rules.Terms
	})
	where := ""
	if rules.TermsURL != "" {
		where = " (" + rules.TermsURL + ")"
	}
	for to := range slices.Chunk(reg.Addressed(outdated, nil), termsAbreast) {
		n := &registry.Notice{
			ID: id, Subject: "New terms of use of the mail relay", To: to, Author: actor, Made: now,
			Text: "The terms of use of version " + rules.Terms + " hold now" + where + ".\n\nRead them, and tell the postmaster that you accept them for your devices.\n",
		}
		if len(out) > 0 {
			n.ID = fmt.Sprintf("%s-%d", id, len(out)+1)
		}
		out = append(out, n)
	}
	slices.Reverse(out) // the first says that all are there
	return out
}

// announce puts the notices of new terms into the registry, from where they are
// sent.
func (l *Lifecycle) announce(ctx context.Context, reg *registry.Snapshot, now time.Time) error {
	for _, n := range newTerms(reg, &l.rules, now) {
		n.Stamp(registry.Change{By: actor, Reason: "new terms of use", At: now})
		if err := l.registry.Put(ctx, n); err != nil && !errors.Is(err, store.ErrDuplicate) {
			return fmt.Errorf("announce the terms of use: %w", err)
		}
	}
	return nil
}
