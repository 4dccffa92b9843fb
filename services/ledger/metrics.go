package ledger

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/shared/books"
)

type metrics struct {
	records    prometheus.Counter
	seq        prometheus.Gauge
	lag        prometheus.Gauge
	recipients *prometheus.GaugeVec
	conflicts  prometheus.Gauge
	duplicates prometheus.Gauge
	unreadable prometheus.Gauge
	residual   prometheus.Gauge
	balanced   prometheus.Gauge
	questions  *prometheus.HistogramVec
	purge      *purgeMetrics
	recovered  *prometheus.CounterVec
	rolledBack prometheus.Gauge
	held       prometheus.Gauge
	gone       prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "postrider_ledger_" + name, Help: help})
	}
	m := &metrics{
		purge: newPurgeMetrics(f),
		records: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ledger_records_total", Help: "Records of LEDGER folded into the index.",
		}),
		seq:        gauge("sequence", "Sequence of the last record of LEDGER in the index."),
		lag:        gauge("lag_records", "Records of LEDGER that are not in the index yet."),
		conflicts:  gauge("conflicts", "Recipients that the ledger calls both served and not served."),
		duplicates: gauge("possible_duplicates", "Recipients that may have got a message twice."),
		unreadable: gauge("unreadable_records", "Records of LEDGER that cannot be read."),
		residual:   gauge("residual", "Recipients that do not add up: accepted, neither settled nor queued, or the reverse."),
		balanced:   gauge("balance_timestamp_seconds", "When the residual was last found, in Unix time."),
		recipients: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "postrider_ledger_recipients", Help: "Recipients in the books by state.",
		}, []string{"state"}),
		questions: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postrider_ledger_question_seconds", Help: "Time to answer a question, by question and whether it was answered (ok, error).",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60},
		}, []string{"question", "result"}),
	}
	m.rolledBack = gauge("rolled_back", "1 while LEDGER is not what it was: nothing is sent before postrider ledger recover is confirmed.")
	m.held = gauge("recovery_held", "1 while the plan of recovery waits to be confirmed.")
	m.gone = gauge("gone_recipients", "Recipients that are lost with their content.")
	m.recovered = f.NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_ledger_recovered_recipients_total", Help: "Recipients that recovery did something about, by action.",
	}, []string{"action"})
	for _, a := range books.Actions {
		if a.Moves() {
			m.recovered.WithLabelValues(string(a))
		}
	}
	for _, s := range books.States {
		m.recipients.WithLabelValues(s)
	}
	return m
}

func (m *metrics) folded(seq uint64, records int) {
	m.seq.Set(float64(seq))
	m.records.Add(float64(records))
}

func (m *metrics) status(s *books.Status) {
	m.lag.Set(float64(s.Lag()))
	m.conflicts.Set(float64(s.Conflicts))
	m.duplicates.Set(float64(s.PossibleDuplicates))
	m.unreadable.Set(float64(s.Unreadable))
	m.rolledBack.Set(one(s.RolledBack != ""))
	m.held.Set(one(s.Recovery.Held != ""))
	m.gone.Set(float64(s.Recovery.Gone))
	for state, n := range s.States {
		m.recipients.WithLabelValues(state).Set(float64(n))
	}
}

// one is 1 for true.
func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) answered(q books.Question, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.questions.WithLabelValues(string(q), result).Observe(took.Seconds())
}
