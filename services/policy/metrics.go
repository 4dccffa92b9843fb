package policy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	recipients *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{recipients: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_policy_recipients_total",
		Help: "Recipients decided with authority, by outcome (admit, refuse) and deciding rule.",
	}, []string{"outcome", "rule"})}
}

func (m *metrics) decided(d decision) {
	if n := len(d.admitted); n > 0 {
		m.recipients.WithLabelValues("admit", d.verdict.Rule).Add(float64(n))
	}
	if n := len(d.refused); n > 0 {
		m.recipients.WithLabelValues("refuse", d.verdict.Rule).Add(float64(n))
	}
}
