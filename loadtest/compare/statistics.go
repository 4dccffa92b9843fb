package compare

import (
	"slices"

	"github.com/postrider/postrider/loadtest/compare/contender"
)

// Spread is the middle of several measurements and their range.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spread of no values is zero.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return Spread{median, sorted[0], sorted[len(sorted)-1]}
}

// Ratio compares Postrider with another contender in one cell.
type Ratio struct {
	// Of is what is compared.
	Of string `json:"of"`
	// Against is the other one.
	Against string `json:"against"`
	// Ratio is that of the medians, Postrider's over the other's; Min and
	// Max are the ratios of the runs of one round.
	Ratio float64 `json:"ratio"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	// Goal is the least that is wanted, or the most.
	Goal   float64 `json:"goal"`
	AtMost bool    `json:"at_most"`
	Holds  bool    `json:"holds"`
}

// The goals: several times as fast as Postfix when neither waits for the
// other's work, and as Postfix with OpenDKIM when both sign; at most a third
// of its processor time.
const (
	goalReuse    = 3
	goalSingle   = 2
	goalEndToEnd = 3
	goalCPU      = 1.0 / 3
)

// ratios compares Postrider with the better of the unsigned ones in accepting,
// and with the signing one in delivering and in processor time. What was not
// measured is not compared.
func ratios(cell Cell, servers []Server) []Ratio {
	ours := named(servers, contender.Postrider)
	if ours == nil {
		return nil
	}
	var all []Ratio
	if unsigned := better(named(servers, contender.PostfixDefault), named(servers, contender.PostfixTuned)); unsigned != nil {
		goal := float64(goalReuse)
		if cell.Mode == Single {
			goal = goalSingle
		}
		all = append(all, ratio("accept rate", ours, unsigned, Run.accept, goal, false)...)
	}
	if signing := named(servers, contender.PostfixOpenDKIM); signing != nil {
		all = append(all, ratio("end-to-end rate", ours, signing, Run.endToEnd, goalEndToEnd, false)...)
		all = append(all, ratio("CPU per message", ours, signing, Run.cpu, goalCPU, true)...)
	}
	return all
}

// named finds a server that has at least one run with figures.
func named(servers []Server, name string) *Server {
	for i := range servers {
		if servers[i].Name == name && len(figures(servers[i].Runs, Run.accept)) > 0 {
			return &servers[i]
		}
	}
	return nil
}

// better is the one that accepts faster; either may be nil.
func better(a, b *Server) *Server {
	if a == nil || b != nil && b.Accept.Median > a.Accept.Median {
		return b
	}
	return a
}

// ratio is missing when the other's figure is zero, as processor time counted
// in ticks may be in a short run.
func ratio(of string, ours, theirs *Server, figure func(Run) float64, goal float64, atMost bool) []Ratio {
	other := spread(figures(theirs.Runs, figure)).Median
	if other == 0 {
		return nil
	}
	r := Ratio{Of: of, Against: theirs.Name, Ratio: spread(figures(ours.Runs, figure)).Median / other, Goal: goal, AtMost: atMost}
	r.Holds = r.Ratio >= goal
	if atMost {
		r.Holds = r.Ratio <= goal
	}
	var byRound []float64
	for _, run := range ours.Runs {
		for _, other := range theirs.Runs {
			if run.Round == other.Round && run.Failed == "" && other.Failed == "" && figure(other) > 0 {
				byRound = append(byRound, figure(run)/figure(other))
			}
		}
	}
	each := spread(byRound)
	r.Min, r.Max = each.Min, each.Max
	return []Ratio{r}
}

// figures are those of the runs that did not fail.
func figures(runs []Run, figure func(Run) float64) []float64 {
	var values []float64
	for _, run := range runs {
		if run.Failed == "" {
			values = append(values, figure(run))
		}
	}
	return values
}
