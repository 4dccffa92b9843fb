// Package compare runs several mail relays in turn under the same load on one
// machine and says how they compare: how fast they accept, how fast they
// deliver, what processor time and memory that takes, and how often they bring
// something to the disk.
//
// A cell is one kind of load: a size, a number of connections, and whether a
// connection is used again. In each round every cell is run once with every
// server, one after the other (A B C D, never A A A); the order is rotated from
// round to round, so that whatever drifts on the machine meets all alike.
//
// One run: what is dirty is written to the disk, the server starts, gets a few
// messages so that its processes are there, and comes to rest. Then the load
// is made and timed twice: until the source has its last 250 (accept), and
// until the sink has counted every message (end to end). The processor time is
// taken once the server has come to rest again, with all work that it put off.
// A run in which not every message arrived exactly once, unchanged and signed
// as expected, has failed and has no figures; a copy that comes later fails its
// run afterwards.
//
// "direct" is the source straight to the sink. It is no contender, and says
// what the harness alone could do.
//
// Limits: one destination, one recipient, no TLS, DNS or AUTH; source, sink and
// server share the processors. Only ratios mean something, and only those
// between runs of one comparison.
package compare

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
)

// Direct is the name of the row without a server.
const Direct = "direct"

// directFactor is how many times the messages go directly, so that this takes
// some time, too.
const directFactor = 10

// Mode says how long a connection is used.
type Mode string

// The modes.
const (
	Reuse  Mode = "reuse"  // as many messages as there are
	Single Mode = "single" // one message
)

func (m Mode) perConnection() int {
	if m == Single {
		return 1
	}
	return 0
}

// Config says what to compare.
type Config struct {
	// Servers are names of contenders, and Direct.
	Servers []string
	// Sizes of a message in octets, Connections side by side, Modes: each
	// combination is a cell.
	Sizes       []int
	Connections []int
	Modes       []Mode
	// Rounds is how often each cell is run with each server.
	Rounds int
	// Messages in a cell of 10 KiB; larger messages are fewer.
	Messages int
	// SyncMessages are submitted in the pass that counts what is brought to
	// the disk; 0 for no such pass.
	SyncMessages int
	// SyncDelay makes every sync of a server take longer, but for that pass.
	SyncDelay time.Duration
	// Dir is an empty directory on the disk that is to be measured.
	Dir string
	// Postrider is the program of that contender.
	Postrider string
	// Progress gets a line for each run.
	Progress io.Writer `json:"-"`
}

// Validate reports the first setting that makes no sense.
func (c Config) Validate() error {
	known := append(contender.Names(), Direct)
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{len(c.Servers) == 0, "servers: none"},
		{repeats(c.Servers), "servers: one is named twice"},
		{len(c.Sizes) == 0 || slices.Min(c.Sizes) < 512, "sizes: none, or less than 512 octets"},
		{len(c.Connections) == 0 || slices.Min(c.Connections) < 1, "connections: none, or less than 1"},
		{len(c.Modes) == 0, "modes: none"},
		{repeats(c.Sizes) || repeats(c.Connections) || repeats(c.Modes), "sizes, connections, modes: one is named twice"},
		{c.Rounds < 1, "rounds: less than 1"},
		{c.Messages < 10, "messages: less than 10"},
		{c.SyncMessages < 0, "sync messages: negative"},
		{c.SyncDelay < 0 || c.SyncDelay > time.Second, "sync delay: negative, or more than a second"},
	} {
		if rule.broken {
			return errors.New(rule.text)
		}
	}
	for _, name := range c.Servers {
		if !slices.Contains(known, name) {
			return fmt.Errorf("servers: %q is none of %s", name, strings.Join(known, ", "))
		}
	}
	for _, mode := range c.Modes {
		if mode != Reuse && mode != Single {
			return fmt.Errorf("modes: %q is neither %s nor %s", mode, Reuse, Single)
		}
	}
	return nil
}

func repeats[T comparable](list []T) bool {
	seen := map[T]bool{}
	for _, v := range list {
		if seen[v] {
			return true
		}
		seen[v] = true
	}
	return false
}

// Missing says which programs of the contenders are not there, and how to get
// them.
func (c Config) Missing() error {
	var missing []error
	for _, name := range c.Servers {
		if name == Direct {
			continue
		}
		server, err := contender.New(name, contender.Site{Postrider: c.Postrider})
		if err == nil {
			err = server.Missing()
		}
		missing = append(missing, err)
	}
	if (c.SyncMessages > 0 || c.SyncDelay > 0) && !meter.CanTrace() {
		missing = append(missing, errors.New("counting what is brought to the disk or slowing it down, needs strace: apt-get install strace (or --sync-messages 0)"))
	}
	return errors.Join(missing...)
}

// Cell is one kind of load.
type Cell struct {
	Size        int  `json:"size"`
	Connections int  `json:"connections"`
	Mode        Mode `json:"mode"`
	// Messages of one run, the same number for every contender.
	Messages int `json:"messages"`
}

func (c Cell) String() string {
	size := fmt.Sprintf("%d octets", c.Size)
	if c.Size%1024 == 0 {
		size = fmt.Sprintf("%d KiB", c.Size/1024)
	}
	mode := "connections used again"
	if c.Mode == Single {
		mode = "one message per connection"
	}
	return fmt.Sprintf("%s, %d connections, %s", size, c.Connections, mode)
}

// cells are all combinations.
func (c Config) cells() []Cell {
	var all []Cell
	for _, size := range c.Sizes {
		for _, connections := range c.Connections {
			for _, mode := range c.Modes {
				all = append(all, Cell{size, connections, mode, scaled(c.Messages, size)})
			}
		}
	}
	return all
}

// scaled is how many messages of this size take about as long as so many of
// 10 KiB: a message costs a relay about what 120 KiB more would. Were they
// much fewer, the memory that a server takes first would count for much.
func scaled(messages, size int) int {
	const fixed, usual = 120 << 10, 10 << 10
	return max(10, messages*(fixed+usual)/(fixed+size))
}

// step is one run.
type step struct {
	round, cell int
	server      string
}

// schedule is the order of all runs.
func schedule(servers []string, cells, rounds int) []step {
	var steps []step
	for round := range rounds {
		for cell := range cells {
			for i := range servers {
				steps = append(steps, step{round, cell, servers[(i+round)%len(servers)]})
			}
		}
	}
	return steps
}
