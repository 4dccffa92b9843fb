package ingress

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	sessions *prometheus.CounterVec
	seconds  prometheus.Histogram
	refusals *prometheus.CounterVec
	auth     *prometheus.CounterVec
	dropped  prometheus.Counter
	late     prometheus.Counter
	used     prometheus.Gauge

	ampersands prometheus.Counter
	slowed     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	return &metrics{
		sessions: with.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_ingress_sessions_total",
			Help: "SMTP conversations begun, by listener and whether they are encrypted (yes, no); STARTTLS begins a second one.",
		}, []string{"listener", "tls"}),
		seconds: with.NewHistogram(prometheus.HistogramOpts{
			Name:    "postrider_accept_duration_seconds",
			Help:    "Time from the go-ahead for the content to the 250.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		refusals: with.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_ingress_refusals_total",
			Help: "Replies that refused something, by stage (auth, mail, rcpt, data, wire) and rule or kind.",
		}, []string{"stage", "rule"}),
		auth: with.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_auth_total",
			Help: "Authentications, by result (ok, failed, unavailable).",
		}, []string{"result"}),
		dropped: with.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ingress_evidence_dropped_total",
			Help: "Refusals whose evidence could not be kept in REFUSED.",
		}),
		late: with.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ingress_late_dropped_total",
			Help: "Messages refused for a store that did not acknowledge, which may be stored without late_accept in the ledger.",
		}),
		ampersands: with.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ingress_helo_ampersands_total",
			Help: "Conversations whose first HELO or EHLO had \"&\" in it, and those commands that were refused for it.",
		}),
		slowed: with.NewCounter(prometheus.CounterOpts{
			Name: "postrider_ingress_slowed_total",
			Help: "Messages of a sender over its limits by the hour, which was made to wait for a reply.",
		}),
		used: with.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_store_used_ratio",
			Help: "Part of the store that is used, 0 when nobody could say; new mail is answered 452 from 0.85 on.",
		}),
	}
}

// expiry shows when the certificate in use ends.
func (m *metrics) expiry(r prometheus.Registerer, c *Certificate) {
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postrider_ingress_certificate_not_after_seconds",
		Help: "End of the validity of the listeners' certificate, in Unix time.",
	}, func() float64 { return float64(c.current.Load().Leaf.NotAfter.Unix()) })
}

func (m *metrics) session(listener string, encrypted bool) {
	tls := "no"
	if encrypted {
		tls = "yes"
	}
	m.sessions.WithLabelValues(listener, tls).Inc()
}

func (m *metrics) accepted(d time.Duration) { m.seconds.Observe(d.Seconds()) }

func (m *metrics) refused(stage, rule string) { m.refusals.WithLabelValues(stage, rule).Inc() }

func (m *metrics) authenticated(result string) { m.auth.WithLabelValues(result).Inc() }
