package policy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/services/policy/scan"
	"github.com/postrider/postrider/shared/event"
)

type metrics struct {
	recipients *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	scans      *prometheus.CounterVec
	observed   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		recipients: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_policy_recipients_total",
			Help: "Recipients decided with authority, by outcome (admit, hold, refuse).",
		}, []string{"outcome"}),
		decisions: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_policy_held_decisions_total",
			Help: "Decisions about held messages that were carried out, by verb (release, drop, bounce).",
		}, []string{"verb"}),
		observed: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_policy_observed_total",
			Help: "Messages that a rule would have stopped that only observes, by rule.",
		}, []string{"rule"}),
		scans: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_policy_scans_total",
			Help: "Messages that were scanned, by what that led to (admit, later, hold, refuse) and whether every scanner answered (yes, no).",
		}, []string{"outcome", "answered"}),
	}
}

func (m *metrics) decided(e *event.Admitted) {
	m.recipients.WithLabelValues("admit").Add(float64(len(e.Env.Recipients)))
	m.recipients.WithLabelValues("refuse").Add(float64(len(e.Refused)))
	if e.Hold != nil {
		m.recipients.WithLabelValues("hold").Add(float64(len(e.Hold.Recipients)))
	}
}

func (m *metrics) passed(observed []string) {
	for _, rule := range observed {
		m.observed.WithLabelValues(rule).Inc()
	}
}

func (m *metrics) scanned(f scan.Finding) {
	answered := "yes"
	if f.Down {
		answered = "no"
	}
	m.scans.WithLabelValues(string(f.Outcome), answered).Inc()
}
