package compare

import (
	"time"

	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
)

// Run is one run of one server in one cell.
type Run struct {
	// Round counts from 1.
	Round int `json:"round"`
	// Accept and EndToEnd are messages per second.
	Accept   float64 `json:"accept_per_second"`
	EndToEnd float64 `json:"end_to_end_per_second"`
	// CPU and Harness are milliseconds per message: of all processes of the
	// server, and of source and sink.
	CPU     float64 `json:"cpu_ms_per_message"`
	Harness float64 `json:"harness_cpu_ms_per_message"`
	// Memory is the peak in MB (10^6 octets), see meter.Group.Memory, and
	// Processes how many there were then.
	Memory    float64 `json:"memory_mb"`
	Processes int     `json:"processes"`
	// Failed says why there are no figures.
	Failed string `json:"failed,omitempty"`
}

func (r Run) accept() float64   { return r.Accept }
func (r Run) endToEnd() float64 { return r.EndToEnd }
func (r Run) cpu() float64      { return r.CPU }
func (r Run) harness() float64  { return r.Harness }
func (r Run) memory() float64   { return r.Memory }

// Server is all runs of one server in one cell.
type Server struct {
	Name     string `json:"name"`
	Runs     []Run  `json:"runs"`
	Accept   Spread `json:"accept_per_second"`
	EndToEnd Spread `json:"end_to_end_per_second"`
	CPU      Spread `json:"cpu_ms_per_message"`
	Harness  Spread `json:"harness_cpu_ms_per_message"`
	Memory   Spread `json:"memory_mb"`
}

func (s *Server) summarize() {
	s.Accept = spread(figures(s.Runs, Run.accept))
	s.EndToEnd = spread(figures(s.Runs, Run.endToEnd))
	s.CPU = spread(figures(s.Runs, Run.cpu))
	s.Harness = spread(figures(s.Runs, Run.harness))
	s.Memory = spread(figures(s.Runs, Run.memory))
}

// Compared is one cell with all its servers.
type Compared struct {
	Cell
	Servers []Server `json:"servers"`
	Ratios  []Ratio  `json:"ratios"`
	// HarnessBound warns that the direct row is less than twice as fast as
	// the fastest server: that one's rate may be the harness' own.
	HarnessBound bool `json:"harness_bound"`
}

// Synced is what one server brings to the disk, with 20 connections and
// messages of 10 KiB.
type Synced struct {
	Name     string `json:"name"`
	Messages int    `json:"messages"`
	// Calls of fsync and the like per message, and writes to files opened
	// with O_SYNC or O_DSYNC.
	Calls  float64 `json:"sync_calls_per_message"`
	Writes float64 `json:"o_sync_writes_per_message"`
	// Alone is how many messages were submitted one by one, and Before250
	// for how many of them one such call or write ended between the dot
	// and the 250.
	Alone     int    `json:"alone"`
	Before250 int    `json:"synced_before_250"`
	Failed    string `json:"failed,omitempty"`
}

// Result is a whole comparison.
type Result struct {
	Machine  meter.Machine     `json:"machine"`
	Versions map[string]string `json:"versions"`
	// Counted says how processor time was counted.
	Counted string `json:"cpu_counted_by"`
	Rounds  int    `json:"rounds"`
	// SyncDelay is by how much every sync was made to take longer.
	SyncDelay time.Duration `json:"sync_delay_ns,omitempty"`
	Cells     []Compared    `json:"cells"`
	Syncs     []Synced      `json:"syncs"`
	// Strays is set when mail arrived that nobody had submitted.
	Strays string `json:"strays,omitempty"`
	// Partial says that the comparison was interrupted.
	Partial bool `json:"partial"`
}

// Failures is how many runs have no figures.
func (r Result) Failures() int {
	n := 0
	for _, cell := range r.Cells {
		for _, server := range cell.Servers {
			n += len(server.Runs) - len(figures(server.Runs, Run.accept))
		}
	}
	for _, synced := range r.Syncs {
		if synced.Failed != "" {
			n++
		}
	}
	if r.Strays != "" {
		n++
	}
	return n
}

// Goals is how many goals hold, and how many there are.
func (r Result) Goals() (hold, all int) {
	for _, cell := range r.Cells {
		for _, ratio := range cell.Ratios {
			all++
			if ratio.Holds {
				hold++
			}
		}
	}
	return hold, all
}

// Asserted reports that every cell could be compared in every way, that all
// goals hold, and that nobody was fast by answering too early.
func (r Result) Asserted() bool {
	for _, s := range r.Syncs {
		if s.Before250 < s.Alone {
			return false
		}
	}
	hold, all := r.Goals()
	return !r.Partial && r.Failures() == 0 && hold == all && all == 3*len(r.Cells) && all > 0
}

// summarize makes medians and ratios of the runs.
func (r *Result) summarize() {
	for i := range r.Cells {
		cell := &r.Cells[i]
		fastest := 0.0
		for j := range cell.Servers {
			cell.Servers[j].summarize()
			if cell.Servers[j].Name != Direct {
				fastest = max(fastest, cell.Servers[j].Accept.Max, cell.Servers[j].EndToEnd.Max)
			}
		}
		cell.Ratios = ratios(cell.Cell, cell.Servers)
		if direct := named(cell.Servers, Direct); direct != nil {
			cell.HarnessBound = direct.EndToEnd.Median < 2*fastest
		}
	}
}

// newResult has every cell and server, without a run.
func newResult(c Config) Result {
	result := Result{Machine: meter.DescribeMachine(c.Dir), Versions: map[string]string{}, Rounds: c.Rounds, SyncDelay: c.SyncDelay}
	for _, cell := range c.cells() {
		compared := Compared{Cell: cell}
		for _, name := range c.Servers {
			compared.Servers = append(compared.Servers, Server{Name: name})
		}
		result.Cells = append(result.Cells, compared)
	}
	for _, name := range c.Servers {
		if server, err := contender.New(name, contender.Site{Postrider: c.Postrider}); err == nil {
			result.Versions[name] = server.Version()
		}
	}
	return result
}
