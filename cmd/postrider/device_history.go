package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// changeRow is one change of an entry.
type changeRow struct {
	At       time.Time        `json:"at"`
	By       string           `json:"by"`
	Entry    string           `json:"entry"`
	Change   string           `json:"change"` // added, changed or removed
	Fields   []document.Field `json:"fields,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Ticket   string           `json:"ticket,omitempty"`
	Revision uint64           `json:"revision"`
}

func newDeviceHistory(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "history NAME",
		Short: "Who changed what of a device, when and why",
		Long:  "List every change of a device in the last 400 days, also of one that is gone: by\npeople, by the relay, and of its addresses in the DNS where it follows that.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := deviceName(args[0])
			device, resolution := (&registry.Device{Name: name}).Key(), (&registry.Resolution{Device: name}).Key()
			return withRegistry(cmd.Context(), f, func(s *store.Store, _ *registry.Snapshot) error {
				return history(cmd, f, s, time.Time{}, device, resolution)
			})
		},
	})
}

// history lists the changes of the entries whose keys match, in the order in which
// they were made.
func history(cmd *cobra.Command, f *flags, s *store.Store, since time.Time, keys ...string) error {
	var rows []changeRow
	last := map[string]registry.Item{}
	for _, key := range keys {
		err := s.History(cmd.Context(), key, func(item registry.Item) error {
			row, err := rowOfChange(last[item.Key()], item)
			last[item.Key()] = item
			if err == nil && !row.At.Before(since) && (len(keys) == 1 || tells(item, &row)) {
				rows = append(rows, row)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(rows, func(a, b changeRow) int { return cmp.Compare(a.Revision, b.Revision) })
	if len(rows) == 0 && since.IsZero() && !strings.HasSuffix(keys[0], ">") {
		return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("nothing was ever changed of it by command; see: postrider device ls")}
	}
	return list(cmd, f, []string{"at", "by", "entry", "change", "fields", "reason", "ticket"}, rows, func(r changeRow) []string {
		fields := make([]string, len(r.Fields))
		for i, f := range r.Fields {
			fields[i] = f.String()
		}
		return []string{r.At.Local().Format(time.DateTime), r.By, r.Entry, r.Change, strings.Join(fields, ", "), r.Reason, r.Ticket}
	})
}

// tells reports a change that people want to see of a device: that the DNS still
// says the same is none.
func tells(item registry.Item, row *changeRow) bool {
	if _, ok := item.(*registry.Resolution); !ok {
		return true
	}
	return slices.ContainsFunc(row.Fields, func(f document.Field) bool { return strings.HasPrefix(f.Name, "addresses") })
}

// rowOfChange compares an entry with what it was before; nil is unknown or none.
func rowOfChange(before, after registry.Item) (changeRow, error) {
	e := after.Audit()
	row := changeRow{At: e.At, By: e.By, Entry: after.String(), Change: "changed", Reason: e.Reason, Ticket: e.Ticket, Revision: e.Revision}
	switch {
	case e.Removed:
		row.Change = "removed"
		return row, nil
	case before == nil || before.Audit().Removed:
		row.Change = "added"
		before = nil
	}
	var err error
	row.Fields, err = document.Fields(before, after)
	return row, err
}
