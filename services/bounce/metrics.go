package bounce

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
		Name: "postrider_bounce_recipients_total",
		Help: "Recipients settled by bounce, by state (bounced, expired) and whether a report was sent.",
	}, []string{"state", "report"})}
}

func (m *metrics) settled(r event.Record) {
	report := "sent"
	if r.Report == "" {
		report = "none"
	}
	m.recipients.WithLabelValues(string(r.Outcome), report).Add(float64(len(r.Recipients)))
}
