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

// roster is who belongs into the group of those that hear notices, and who of
// them is there since the relay put him there: the contacts of all devices that
// have been activated and are not retired, and whoever was added by hand. The
// relay takes out whom it put in, and nobody else (M15, M16). It is a pure
// function; of what it returns it asks for nothing.
func roster(reg *registry.Snapshot, g *registry.Group) (members, joined []string) {
	wanted := map[string]string{} // as written first, by lower case
	for _, d := range reg.Entries().Devices {
		if !d.State.Holds() {
			continue
		}
		for _, c := range reg.ContactsOf(d) {
			if key := strings.ToLower(c); wanted[key] == "" {
				wanted[key] = c
			}
		}
	}
	ours := map[string]bool{}
	for _, c := range g.Joined {
		ours[strings.ToLower(c)] = true
	}
	for _, m := range g.Members {
		key := strings.ToLower(m)
		_, contact := wanted[key]
		delete(wanted, key)
		if ours[key] && !contact {
			continue
		}
		members = append(members, m)
		if ours[key] {
			joined = append(joined, m)
		}
	}
	var fresh []string
	for _, c := range wanted {
		fresh = append(fresh, c)
	}
	slices.Sort(fresh)
	return append(members, fresh...), append(joined, fresh...)
}

// look keeps the group as it should be, where the registry changed.
func (l *Lifecycle) look(ctx context.Context, now time.Time) error {
	reg := l.registry.Snapshot()
	if l.joined == reg.Revision && reg.Revision > 0 {
		return nil
	}
	if err := l.join(ctx, reg, now); err != nil {
		return fmt.Errorf("keep group %s: %w", l.group, err)
	}
	l.joined = reg.Revision
	return nil
}

// join keeps the group as it should be. A change that somebody else overtakes is
// made by a later round: it is compared anew each time.
func (l *Lifecycle) join(ctx context.Context, reg *registry.Snapshot, now time.Time) error {
	if l.group == "" {
		return nil
	}
	g := &registry.Group{Name: l.group}
	if old, ok := reg.Group(l.group); ok {
		var err error
		if g, err = registry.Clone(old); err != nil {
			return err
		}
	}
	members, joined := roster(reg, g)
	if slices.Equal(members, g.Members) && slices.Equal(joined, g.Joined) {
		return nil
	}
	g.Members, g.Joined = members, joined
	g.Stamp(registry.Change{By: actor, Reason: "contacts of devices", At: now})
	err := l.registry.Put(ctx, g)
	if errors.Is(err, store.ErrFromFile) {
		return nil
	}
	return err
}
