package ledger

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// purgeMetrics are those of the instance that purges; the others say 0.
type purgeMetrics struct {
	messages, octets *prometheus.CounterVec
	kept, early      prometheus.Counter
	inKeep           prometheus.Gauge
	overdue          prometheus.Gauge
	unsettled        prometheus.Gauge
}

func newPurgeMetrics(f promauto.Factory) *purgeMetrics {
	return &purgeMetrics{
		messages: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_ledger_purged_messages_total", Help: "Stream messages purged, by kind of stream (mail, body, admitted, keep).",
		}, []string{"stream"}),
		octets: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_ledger_purged_bytes_total", Help: "Content purged, by kind of stream (mail, body).",
		}, []string{"stream"}),
		kept: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ledger_kept_messages_total", Help: "Messages moved from MAIL to KEEP because they outlived the retention.",
		}),
		early: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ledger_early_purges_total", Help: "Rounds in which content was purged before its time because room was short.",
		}),
		inKeep: f.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_ledger_kept_messages", Help: "Messages in KEEP.",
		}),
		overdue: f.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_ledger_content_overdue_seconds", Help: "How much longer than the retention the oldest content has been in MAIL or BODY.",
		}),
		unsettled: f.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_ledger_oldest_unsettled_timestamp_seconds", Help: "When the oldest message that is not settled was accepted, in Unix time; 0 for none.",
		}),
	}
}

// purged counts what was purged from a stream.
func (m *purgeMetrics) purged(stream string, messages int, octets int64) {
	kind, _, _ := strings.Cut(strings.ToLower(stream), "_")
	m.messages.WithLabelValues(kind).Add(float64(messages))
	if octets > 0 {
		m.octets.WithLabelValues(kind).Add(float64(octets))
	}
}

// rest is for an instance that no longer purges.
func (m *purgeMetrics) rest() {
	for _, g := range []prometheus.Gauge{m.inKeep, m.overdue, m.unsettled} {
		g.Set(0)
	}
}
