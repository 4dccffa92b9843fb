package generate

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// Counts are running totals of attempts.
type Counts struct {
	Attempts int `json:"attempts"`
	Accepted int `json:"accepted"`
	// Refused for good (5yz) and for now (4yz), as whole messages.
	Refused   int `json:"refused"`
	Temporary int `json:"temporary"`
	// Lost after the dot: the relay may have the message or not.
	Lost int `json:"lost"`
	// Aborted before the dot: the relay does not have the message.
	Aborted int `json:"aborted"`
	// GaveUp are messages that ended without a final answer.
	GaveUp int `json:"gave_up"`
	// Unreachable are connections that could not be opened.
	Unreachable int `json:"unreachable"`
	Connections int `json:"connections"`
	// AcceptedRecipients and RefusedRecipients of accepted messages.
	AcceptedRecipients int `json:"accepted_recipients"`
	RefusedRecipients  int `json:"refused_recipients"`
}

// Summary is the result of a run.
type Summary struct {
	Run    string `json:"run"`
	Server string `json:"server"`
	Counts
	// Replies counts attempts by the code that decided, or "lost" and
	// "aborted".
	Replies map[string]int `json:"replies"`
	// Seconds from the first connection to the end of the last transaction.
	Seconds float64 `json:"seconds"`
	// Rate is accepted messages a second over Seconds.
	Rate float64 `json:"accepted_per_second"`
	// Latency of the accepted, in milliseconds.
	Latency Latency `json:"latency_ms"`
	// Octets of the accepted.
	Octets int64 `json:"octets"`

	samples []sample
}

// Latency has quantiles by nearest rank, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// sample is one accepted message.
type sample struct {
	at      time.Duration // since the begin of the run
	latency time.Duration
}

// tally gathers what the workers did.
type tally struct {
	mu       sync.Mutex
	counts   Counts
	replies  map[string]int
	octets   int64
	samples  []sample
	from, to time.Time
}

func newTally() *tally {
	// The first connection is opened before the workers start.
	return &tally{replies: map[string]int{}}
}

func (t *tally) begin(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from, t.to = now, now
	t.counts.Connections = 1
}

func (t *tally) end(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to = now
}

func (t *tally) connected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Connections++
}

func (t *tally) unreachable() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Unreachable++
}

func (t *tally) gaveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.GaveUp++
}

func (t *tally) add(m *message, o outcome, began, ended time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Attempts++
	t.replies[describe(o)]++
	switch {
	case o.phase == journal.Lost:
		t.counts.Lost++
	case o.phase == journal.Aborted:
		t.counts.Aborted++
	case o.reply.code/100 == 4:
		t.counts.Temporary++
	case o.reply.code/100 == 5:
		t.counts.Refused++
	default:
		t.counts.Accepted++
		t.octets += int64(m.octets)
		t.samples = append(t.samples, sample{at: ended.Sub(t.from), latency: ended.Sub(began)})
		for _, recipient := range m.recipients {
			if recipient.RcptReply/100 == 2 {
				t.counts.AcceptedRecipients++
			} else {
				t.counts.RefusedRecipients++
			}
		}
	}
}

func (t *tally) snapshot() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

func (t *tally) summary(c Config) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{
		Run:     c.Run,
		Server:  c.Server,
		Counts:  t.counts,
		Replies: maps.Clone(t.replies),
		Seconds: t.to.Sub(t.from).Seconds(),
		Octets:  t.octets,
		Latency: latencyOf(t.samples),
		samples: slices.Clone(t.samples),
	}
	if s.Seconds > 0 {
		s.Rate = float64(s.Accepted) / s.Seconds
	}
	return s
}

func latencyOf(samples []sample) Latency {
	sorted := make([]time.Duration, len(samples))
	for i, s := range samples {
		sorted[i] = s.latency
	}
	slices.Sort(sorted)
	return Latency{
		P50: milliseconds(quantile(sorted, 0.50)),
		P95: milliseconds(quantile(sorted, 0.95)),
		P99: milliseconds(quantile(sorted, 0.99)),
		Max: milliseconds(quantile(sorted, 1)),
	}
}

// quantile is the value at the nearest rank of a sorted list, 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q*float64(len(sorted)) + 0.999999)
	return sorted[max(0, min(rank, len(sorted))-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// WriteText writes the summary for people.
func (s Summary) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, values...))
	}
	row("run", "%s", s.Run)
	row("accepted", "%d messages, %d recipients, %.1f MB in %.2f s", s.Accepted, s.AcceptedRecipients, float64(s.Octets)/1e6, s.Seconds)
	row("rate", "%.1f accepted/s", s.Rate)
	row("latency", "p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.2f ms", s.Latency.P50, s.Latency.P95, s.Latency.P99, s.Latency.Max)
	row("not accepted", "%d refused, %d temporary, %d lost, %d aborted, %d given up", s.Refused, s.Temporary, s.Lost, s.Aborted, s.GaveUp)
	row("recipients", "%d refused at RCPT within accepted messages", s.RefusedRecipients)
	row("connections", "%d, %d could not be opened", s.Connections, s.Unreachable)
	for _, code := range slices.Sorted(maps.Keys(s.Replies)) {
		row("reply "+code, "%d", s.Replies[code])
	}
	return table.Flush()
}
