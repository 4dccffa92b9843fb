package policy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/shared/event"
)

type metrics struct {
	recipients *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{recipients: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_policy_recipients_total",
		Help: "Recipients decided with authority, by outcome (admit, refuse).",
	}, []string{"outcome"})}
}

func (m *metrics) decided(e *event.Admitted) {
	m.recipients.WithLabelValues("admit").Add(float64(len(e.Env.Recipients)))
	m.recipients.WithLabelValues("refuse").Add(float64(len(e.Refused)))
}
