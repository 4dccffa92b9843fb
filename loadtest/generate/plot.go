package generate

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	plotWidth = 60
	barWidth  = 40
)

// WritePlot draws the rate of acceptance over time and the distribution of
// latency. It draws nothing when nothing was accepted.
func (s Summary) WritePlot(w io.Writer) error {
	if len(s.samples) == 0 {
		return nil
	}
	total := time.Duration(s.Seconds * float64(time.Second))
	buckets := rateBuckets(s.samples, total, plotWidth)
	width := total / plotWidth
	peak := 0.0
	for _, n := range buckets {
		peak = max(peak, float64(n)/width.Seconds())
	}
	if _, err := fmt.Fprintf(w, "accepted/s over %.1f s, peak %.0f\n  %s\nlatency\n", s.Seconds, peak, sparkline(buckets)); err != nil {
		return err
	}
	most := 0
	bars := latencyBars(s.samples)
	for _, bar := range bars {
		most = max(most, bar.count)
	}
	for _, bar := range bars {
		// A bar that counts anything shows at least one mark.
		length := (bar.count*barWidth + most - 1) / most
		if _, err := fmt.Fprintf(w, "  < %9v %-*s %d\n", bar.below, barWidth, strings.Repeat("#", length), bar.count); err != nil {
			return err
		}
	}
	return nil
}

// rateBuckets counts the samples in n equal parts of the time.
func rateBuckets(samples []sample, total time.Duration, n int) []int {
	buckets := make([]int, n)
	for _, s := range samples {
		i := 0
		if total > 0 {
			i = int(int64(s.at) * int64(n) / int64(total))
		}
		buckets[max(0, min(i, n-1))]++
	}
	return buckets
}

// sparkline is one mark for each count, as high as its share of the largest.
func sparkline(counts []int) string {
	marks := []rune(" ▁▂▃▄▅▆▇█")
	most := 1
	for _, n := range counts {
		most = max(most, n)
	}
	var b strings.Builder
	for _, n := range counts {
		b.WriteRune(marks[(n*(len(marks)-1)+most-1)/most])
	}
	return b.String()
}

type bar struct {
	below time.Duration
	count int
}

// latencyBars counts by powers of two from 125 µs, without empty ends.
func latencyBars(samples []sample) []bar {
	var bars []bar
	for _, s := range samples {
		i := 0
		for below := 125 * time.Microsecond; s.latency >= below; below *= 2 {
			i++
		}
		for len(bars) <= i {
			bars = append(bars, bar{below: 125 * time.Microsecond << len(bars)})
		}
		bars[i].count++
	}
	for len(bars) > 0 && bars[0].count == 0 {
		bars = bars[1:]
	}
	return bars
}
