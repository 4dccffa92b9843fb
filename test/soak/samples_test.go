//go:build soak

package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sample is what the relay takes at one moment.
type sample struct {
	at time.Duration // since the first
	// values are by the names of quantities.
	values map[string]float64
}

// quantities are what must not grow, with how much of their size may be
// chance. The books (LEDGER and its index) grow by design and are shown only.
var quantities = []struct {
	name   string
	metric string  // of /metrics; empty: measured on disk
	chance float64 // share by which the last third may exceed the middle one
	slack  float64 // and this much in any case
}{
	{"memory MiB", "process_resident_memory_bytes", 0.15, 20},
	{"descriptors", "process_open_fds", 0.10, 10},
	{"goroutines", "go_goroutines", 0.15, 30},
	{"disk MiB", "", 0.25, 32},
}

const books = "books MiB"

// watch takes 60 samples, or fewer if the function it returns is called before,
// which returns them. A relay that has come to rest would hide what has grown.
func (r *relay) watch(t *testing.T, length time.Duration) (stop func() []sample) {
	ctx, cancel := context.WithTimeout(t.Context(), length)
	result := make(chan []sample, 1)
	go func() { result <- r.samples(ctx, length/60) }()
	return func() []sample {
		cancel()
		return <-result
	}
}

// samples takes samples until ctx ends.
func (r *relay) samples(ctx context.Context, every time.Duration) []sample {
	var all []sample
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return all
		case <-tick.C:
		}
		values, err := r.metricsNow(ctx)
		if err != nil {
			continue // the relay is at its limit; the next sample will do
		}
		s := sample{time.Since(begun), map[string]float64{}}
		for _, q := range quantities {
			s.values[q.name] = values[q.metric]
		}
		s.values["memory MiB"] /= 1 << 20
		s.values["disk MiB"], s.values[books] = r.disk()
		all = append(all, s)
	}
}

// metricsNow reads the values without labels of /metrics.
func (r *relay) metricsNow(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	if out["go_goroutines"] == 0 {
		return nil, errors.New("no metrics yet")
	}
	return out, nil
}

// disk is what the data directory holds, apart from the books, and the books,
// in MiB.
func (r *relay) disk() (mail, books float64) {
	filepath.WalkDir(r.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		size := float64(info.Size()) / (1 << 20)
		if strings.Contains(path, "LEDGER") || strings.Contains(path, "ledger") {
			books += size
			return nil
		}
		mail += size
		return nil
	})
	return mail, books
}

// grown names the quantities that are larger in the last third of the time
// than chance allows after the middle third.
func grown(all []sample) (out []string) {
	if len(all) < 9 {
		return []string{fmt.Sprintf("%d samples are too few to judge", len(all))}
	}
	third := len(all) / 3
	for _, q := range quantities {
		middle, last := mean(all[third:2*third], q.name), mean(all[2*third:], q.name)
		if last > middle*(1+q.chance)+q.slack {
			out = append(out, fmt.Sprintf("%s grew from %.1f to %.1f", q.name, middle, last))
		}
	}
	return out
}

func mean(all []sample, name string) float64 {
	sum := 0.0
	for _, s := range all {
		sum += s.values[name]
	}
	return sum / float64(len(all))
}

// table shows about twenty of the samples.
func table(all []sample) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%8s", "time")
	names := []string{}
	for _, q := range quantities {
		names = append(names, q.name)
	}
	names = append(names, books)
	for _, n := range names {
		fmt.Fprintf(&out, "%14s", n)
	}
	for i := 0; i < len(all); i += max(1, len(all)/20) {
		fmt.Fprintf(&out, "\n%8s", all[i].at.Round(time.Second))
		for _, n := range names {
			fmt.Fprintf(&out, "%14.1f", all[i].values[n])
		}
	}
	return out.String()
}

func TestGrownSeesGrowth(t *testing.T) {
	var flat, rising []sample
	for i := range 30 {
		v := map[string]float64{"memory MiB": 200, "descriptors": 50, "goroutines": 400, "disk MiB": 300}
		flat = append(flat, sample{0, v})
		rising = append(rising, sample{0, map[string]float64{"memory MiB": 200 + 10*float64(i), "descriptors": 50, "goroutines": 400, "disk MiB": 300}})
	}
	if got := grown(flat); len(got) != 0 {
		t.Error(got)
	}
	if got := grown(rising); len(got) != 1 {
		t.Error(got)
	}
}
