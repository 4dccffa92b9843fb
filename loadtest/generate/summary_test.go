package generate

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func samplesOf(latencies ...time.Duration) []sample {
	var out []sample
	for i, latency := range latencies {
		out = append(out, sample{at: time.Duration(i) * time.Second, latency: latency})
	}
	return out
}

func TestLatency(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for _, tt := range []struct {
		samples []sample
		want    Latency
	}{
		{nil, Latency{}},
		{samplesOf(time.Millisecond), Latency{1, 1, 1, 1}},
		{samplesOf(3*time.Millisecond, time.Millisecond), Latency{1, 3, 3, 3}},
		{samplesOf(hundred...), Latency{50, 95, 99, 100}},
	} {
		if got := latencyOf(tt.samples); got != tt.want {
			t.Errorf("latency of %d samples = %+v, want %+v", len(tt.samples), got, tt.want)
		}
	}
}

func TestPlot(t *testing.T) {
	s := Summary{Seconds: 3, samples: samplesOf(100*time.Microsecond, 3*time.Millisecond, 3*time.Millisecond)}
	var out bytes.Buffer
	if err := s.WritePlot(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"peak 20\n", "<     125µs ####################", "<       4ms ######################################## 2\n", "<       1ms                                          0\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if got := sparkline([]int{0, 1, 4, 8}); got != " ▁▄█" {
		t.Errorf("sparkline %q", got)
	}
	if got := latencyBars(samplesOf(600 * time.Microsecond)); len(got) != 1 || got[0].below != time.Millisecond {
		t.Errorf("bars %v", got)
	}
	out.Reset()
	if err := (Summary{}).WritePlot(&out); err != nil || out.Len() != 0 {
		t.Errorf("plot of nothing: %q, %v", out.String(), err)
	}
}
