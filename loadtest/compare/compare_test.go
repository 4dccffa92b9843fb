package compare

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{7}, Spread{7, 7, 7}},
		{[]float64{9, 1, 4}, Spread{4, 1, 9}},
		{[]float64{9, 1, 4, 6}, Spread{5, 1, 9}},
	} {
		if got := spread(tt.values); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.values, got, tt.want)
		}
	}
}

// TestSchedule: in every round each cell sees each server once, before another
// cell begins; nobody is always first; nobody runs twice in a row in a cell.
func TestSchedule(t *testing.T) {
	var got []string
	for _, s := range schedule([]string{"A", "B", "C"}, 2, 4) {
		got = append(got, fmt.Sprint(s.round, s.cell, s.server))
	}
	want := strings.Fields("00A 00B 00C 01A 01B 01C 10B 10C 10A 11B 11C 11A 20C 20A 20B 21C 21A 21B 30A 30B 30C 31A 31B 31C")
	for i := range want {
		want[i] = fmt.Sprint(want[i][:1], " ", want[i][1:2], want[i][2:])
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCells(t *testing.T) {
	c := Config{Sizes: []int{10 << 10, 100 << 10, 1 << 10}, Connections: []int{20}, Modes: []Mode{Reuse, Single}, Messages: 3000}
	var got []string
	for _, cell := range c.cells() {
		got = append(got, fmt.Sprint(cell, ": ", cell.Messages))
	}
	want := []string{
		"10 KiB, 20 connections, connections used again: 3000", "10 KiB, 20 connections, one message per connection: 3000",
		"100 KiB, 20 connections, connections used again: 1772", "100 KiB, 20 connections, one message per connection: 1772",
		"1 KiB, 20 connections, connections used again: 3223", "1 KiB, 20 connections, one message per connection: 3223",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func valid() Config {
	return Config{Servers: []string{Direct}, Sizes: []int{2000}, Connections: []int{3}, Modes: []Mode{Single}, Rounds: 1, Messages: 10}
}

func TestValidate(t *testing.T) {
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"none of":     func(c *Config) { c.Servers = []string{"sendmail"} },
		"twice":       func(c *Config) { c.Servers = []string{Direct, Direct} },
		"sizes":       func(c *Config) { c.Sizes = []int{10} },
		"connections": func(c *Config) { c.Connections = []int{0} },
		"neither":     func(c *Config) { c.Modes = []Mode{"both"} },
		"rounds":      func(c *Config) { c.Rounds = 0 },
		"sync delay":  func(c *Config) { c.SyncDelay = 2 * time.Second },
		"messages":    func(c *Config) { c.Messages = 1 },
	} {
		c := valid()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestDirect runs a comparison of the harness with itself.
func TestDirect(t *testing.T) {
	c := valid()
	c.Rounds, c.Modes, c.Dir, c.Progress = 2, []Mode{Reuse, Single}, t.TempDir(), t.Output()
	result, err := Compare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range result.Cells {
		s := cell.Servers[0]
		if len(s.Runs) != 2 || s.Accept.Min <= 0 || s.EndToEnd.Min <= 0 || result.Failures() != 0 {
			t.Errorf("%s: %+v", cell.Cell, s)
		}
	}
	if result.Partial || result.Asserted() || result.Machine.Go == "" {
		t.Errorf("%+v", result)
	}
}

// TestFails: a server that cannot be started is a failed run of that server,
// and does not keep the others from theirs.
func TestFails(t *testing.T) {
	c := valid()
	c.Servers, c.Dir, c.Progress, c.SyncMessages = []string{contender.Postrider, Direct}, t.TempDir(), t.Output(), 10
	c.Postrider = "/bin/false"
	result, err := Compare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	servers := result.Cells[0].Servers
	if failed := servers[0].Runs[0].Failed; !strings.Contains(failed, "exit status 1") || result.Failures() != 2 {
		t.Errorf("failed: %q, %d failures", failed, result.Failures())
	}
	if servers[1].Accept.Median <= 0 {
		t.Errorf("direct did not run: %+v", servers[1])
	}
}

// example is a comparison with round figures.
func example() Result {
	runs := func(figures ...[3]float64) []Run {
		var all []Run
		for i, f := range figures {
			all = append(all, Run{Round: i + 1, Accept: f[0], EndToEnd: f[1], CPU: f[2], Memory: 100, Harness: 0.1})
		}
		return all
	}
	result := Result{
		Machine: meter.Machine{CPU: "Abacus", Cores: 2, Memory: "8 GB", Kernel: "Linux 6", OS: "Debian", Filesystem: "ext4 on /dev/a", Go: "go1.26", Load: "0.1"},
		Counted: "control group", Rounds: 3, Versions: map[string]string{contender.Postrider: "built today"},
		Cells: []Compared{{
			Cell: Cell{10 << 10, 20, Reuse, 3000},
			Servers: []Server{
				{Name: Direct, Runs: runs([3]float64{9000, 9000, 0}, [3]float64{9900, 9900, 0}, [3]float64{9500, 9500, 0})},
				{Name: contender.PostfixDefault, Runs: runs([3]float64{600, 300, 3}, [3]float64{500, 200, 4}, [3]float64{400, 100, 5})},
				{Name: contender.PostfixTuned, Runs: runs([3]float64{450, 300, 3}, [3]float64{450, 300, 3}, [3]float64{450, 300, 3})},
				{Name: contender.PostfixOpenDKIM, Runs: runs([3]float64{170, 160, 8}, [3]float64{180, 165, 9}, [3]float64{190, 170, 10})},
				{Name: contender.Postrider, Runs: runs([3]float64{1800, 480, 2}, [3]float64{2000, 500, 3.6}, [3]float64{2200, 540, 4})},
			},
		}, {
			Cell: Cell{10 << 10, 20, Single, 3000},
			Servers: []Server{
				{Name: contender.PostfixTuned, Runs: []Run{{Round: 1, Failed: "421 busy"}, {Round: 2, Accept: 500, EndToEnd: 250, CPU: 3, Memory: 10}}},
				{Name: contender.Postrider, Runs: runs([3]float64{900, 500, 2}, [3]float64{1200, 700, 3})},
			},
		}},
		Syncs: []Synced{
			{Name: contender.PostfixDefault, Messages: 200, Calls: 1, Alone: 5, Before250: 5},
			{Name: contender.Postrider, Messages: 200, Calls: 2.5, Writes: 0.25, Alone: 5, Before250: 4},
		},
	}
	result.summarize()
	return result
}

func TestRatios(t *testing.T) {
	result := example()
	want := []Ratio{
		{"accept rate", contender.PostfixDefault, 4, 3, 5.5, 3, false, true},
		{"end-to-end rate", contender.PostfixOpenDKIM, 500.0 / 165, 3, 540.0 / 170, 3, false, true},
		{"CPU per message", contender.PostfixOpenDKIM, 0.4, 0.25, 0.4, goalCPU, true, false},
	}
	if got := result.Cells[0].Ratios; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	want = []Ratio{{"accept rate", contender.PostfixTuned, 2.1, 2.4, 2.4, 2, false, true}}
	if got := result.Cells[1].Ratios; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if hold, all := result.Goals(); hold != 3 || all != 4 || result.Failures() != 1 {
		t.Errorf("%d of %d goals, %d failures", hold, all, result.Failures())
	}
}

// TestAsserted: every reason not to be content is one.
func TestAsserted(t *testing.T) {
	good := func() Result {
		r := example()
		r.Cells = r.Cells[:1]
		for i := range r.Cells[0].Servers[4].Runs {
			r.Cells[0].Servers[4].Runs[i].CPU = 2
		}
		r.Syncs[1].Before250 = 5
		r.summarize()
		return r
	}
	if r := good(); !r.Asserted() {
		t.Fatalf("%+v", r.Cells[0].Ratios)
	}
	for name, spoil := range map[string]func(*Result){
		"slow": func(r *Result) {
			r.Cells[0].Servers[4].Runs[0].Accept, r.Cells[0].Servers[4].Runs[1].Accept = 1400, 1400
		},
		"no peer":         func(r *Result) { r.Cells[0].Servers = r.Cells[0].Servers[3:] },
		"no signing peer": func(r *Result) { r.Cells[0].Servers[3].Runs = nil },
		"one failed":      func(r *Result) { r.Cells[0].Servers[1].Runs[2].Failed = "lost one" },
		"not durable":     func(r *Result) { r.Syncs[1].Before250 = 4 },
		"strays":          func(r *Result) { r.Strays = "3 messages" },
		"interrupted":     func(r *Result) { r.Partial = true },
		"nothing":         func(r *Result) { r.Cells = nil },
	} {
		r := good()
		spoil(&r)
		r.summarize()
		if r.Asserted() {
			t.Errorf("%s: asserted", name)
		}
	}
}

func TestBar(t *testing.T) {
	for value, want := range map[float64]string{0: "", 1: "▏", 500: "████████", 1000: strings.Repeat("█", 16), 520: "████████▍"} {
		if got := bar(value, 1000); got != want {
			t.Errorf("%v: got %q, want %q", value, got, want)
		}
	}
	if got := bar(1, 0); got != "" {
		t.Errorf("nothing to compare with: %q", got)
	}
}

// TestReport compares the forms with testdata; look at them before you write
// them anew with -update.
func TestReport(t *testing.T) {
	for file, write := range map[string]func(*bytes.Buffer) error{
		"table.txt":  func(b *bytes.Buffer) error { return example().WriteTable(b) },
		"result.md":  func(b *bytes.Buffer) error { return example().WriteMarkdown(b) },
		"ratio.json": func(b *bytes.Buffer) error { return json.NewEncoder(b).Encode(example().Cells[0].Ratios) },
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		path := "testdata/" + file
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: got\n%s", file, got.String())
		}
	}
}

func TestDurations(t *testing.T) {
	d := durations{}
	steps := schedule([]string{"A", "B"}, 2, 2)
	if got := d.left(steps); got != 0 {
		t.Errorf("nothing is known, yet %v", got)
	}
	d.add(steps[0], 10*time.Second) // A in cell 0
	d.add(steps[1], 2*time.Second)  // B in cell 0
	// A and B in cell 1 as in cell 0, and the second round as the first.
	if got := d.left(steps[2:]); got != 36*time.Second {
		t.Errorf("got %v", got)
	}
}

func TestCountSynced(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	paths := []string{t.TempDir() + "/a", t.TempDir() + "/b"}
	for i, text := range []string{
		"7  100.500000 fsync(5</q>) = 0 <0.000010>\n7  200.000001 fsync(5</q>) = 0 <0.000010>\n",
		"9  102.500000 fdatasync(5</q>) = 0 <0.000010>\n9  200.500000 fsync(5</q>) = 0 <0.000010>\n9  201.000000 fsync(5</q>) = 0 <0.000010>\n",
	} {
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alone := []interval{{at(100), at(101)}, {at(101), at(102)}, {at(102), at(103)}}
	got, err := countSynced(paths, alone, at(200), at(300), 2)
	if want := (Synced{Messages: 2, Calls: 1.5, Alone: 3, Before250: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
