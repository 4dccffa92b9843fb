package compare

import (
	"fmt"
	"time"
)

// line is a run as it is shown while others are still to be made.
func (r Run) line() string {
	if r.Failed != "" {
		return "FAILED: " + r.Failed
	}
	return fmt.Sprintf("accepted %.0f/s, end to end %.0f/s, CPU %.2f ms, %.0f MB", r.Accept, r.EndToEnd, r.CPU, r.Memory)
}

// durations is how long runs took, by server and cell, and by server.
type durations map[step][]time.Duration

func (d durations) add(s step, took time.Duration) {
	for _, key := range keys(s) {
		d[key] = append(d[key], took)
	}
}

// keys are what a run has in common with others, the closest first. Rounds make
// no difference.
func keys(s step) []step {
	return []step{{-1, s.cell, s.server}, {-1, -1, s.server}, {-1, -1, ""}}
}

// left is how long the steps that remain will take, as far as is known.
func (d durations) left(steps []step) time.Duration {
	var sum time.Duration
	for _, s := range steps {
		for _, key := range keys(s) {
			if known := d[key]; len(known) > 0 {
				var all time.Duration
				for _, took := range known {
					all += took
				}
				sum += all / time.Duration(len(known))
				break
			}
		}
	}
	return sum.Round(time.Second)
}
