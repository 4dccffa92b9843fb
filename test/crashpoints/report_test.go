//go:build crashpoints

package crashpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// sums are the outcomes of the points of one service and call.
type sums struct {
	points, killed, accepted, refused, lost, arrived, duplicates int
	places                                                       map[string]int
}

func (s *sums) add(r result) {
	s.points++
	if !r.fired {
		return
	}
	s.killed++
	s.places[r.at]++
	switch {
	case r.told == accepted:
		s.accepted++
	case r.told == refused:
		s.refused++
	default:
		s.lost++
	}
	if r.told != accepted && r.copies > 0 {
		s.arrived++
	}
	if r.duplicate() {
		s.duplicates++
	}
}

// table has one line for each service and call, and the total.
func (r *relay) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "service\tcall\tpoints\tkilled\tdistinct\tsurvived\tclient told 250\t4yz\tlost\tof these arrived\tsecond copy after the dot\t")
	total := &sums{places: map[string]int{}}
	for _, key := range r.order() {
		s := &sums{places: map[string]int{}}
		for _, res := range r.results {
			if res.service == key[0] && res.call == key[1] {
				s.add(res)
				res.at = key[0] + " " + res.at
				total.add(res)
			}
		}
		s.line(w, key[0], key[1])
	}
	total.line(w, "total", "")
	w.Flush()
	return out.String()
}

func (s *sums) line(w *tabwriter.Writer, service, call string) {
	fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
		service, call, s.points, s.killed, len(s.places), s.points-s.killed, s.accepted, s.refused, s.lost, s.arrived, s.duplicates)
}

// order are the services and calls that were tried, in their order.
func (r *relay) order() (keys [][2]string) {
	for _, res := range r.results {
		if key := [2]string{res.service, res.call}; !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// places are the calls that processes were killed at, and how often.
func (r *relay) places() string {
	found := map[string]int{}
	for _, res := range r.results {
		if res.fired {
			found[res.service+" "+res.at]++
		}
	}
	var out strings.Builder
	for _, place := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintf(&out, "%5d  %s\n", found[place], place)
	}
	return out.String()
}
