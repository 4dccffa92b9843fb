package delivery

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtpclient"
)

// metrics are all metrics of the service. Label values are the words written
// here; no name of a host or destination is among them.
type metrics struct {
	recipients *prometheus.CounterVec   // outcome: delivered, delayed, failed, expired
	attempts   *prometheus.CounterVec   // class: 2yz (all taken), 4yz, 5yz (worst reply), cut (ended by us)
	sessions   *prometheus.CounterVec   // tls: clear, unverified, verified
	seconds    *prometheus.HistogramVec // class as in attempts
	open       prometheus.Gauge
	reused     prometheus.Counter
	turned     prometheus.Counter
	held       prometheus.Counter
	partitions prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	if r == nil {
		r = prometheus.NewRegistry()
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	return &metrics{
		recipients: counters("postrider_delivery_recipients_total", "Recipients by what an attempt decided.", "outcome"),
		attempts:   counters("postrider_delivery_attempts_total", "Attempts by the worst reply.", "class"),
		sessions:   counters("postrider_delivery_sessions_total", "SMTP sessions opened, by encryption.", "tls"),
		seconds: register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postrider_delivery_attempt_seconds", Help: "Duration of an attempt.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000},
		}, []string{"class"})),
		open: register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_delivery_connections_open", Help: "Connections to mail servers, idle ones included."})),
		reused: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_delivery_sessions_reused_total", Help: "Messages that found an idle session."})),
		turned: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_delivery_appointments_total", Help: "Jobs that come again later without an attempt: their destination was busy, or the ledger service did not say what became of older ones."})),
		held: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_delivery_held_total", Help: "Jobs moved to HELD because people wanted that."})),
		partitions: register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_delivery_partitions", Help: "Partitions that this worker serves."})),
	}
}

// register registers a metric, or finds the one that another instance in the
// same process registered.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	err := r.Register(c)
	var taken prometheus.AlreadyRegisteredError
	if errors.As(err, &taken) {
		return taken.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // two metrics of one name: a bug
	}
	return c
}

// session counts a session that was opened.
func (m *metrics) session(s *smtpclient.Session) {
	label := "clear"
	switch {
	case s.TLS() != nil && s.Verified():
		label = "verified"
	case s.TLS() != nil:
		label = "unverified"
	}
	m.sessions.WithLabelValues(label).Inc()
}

// settled counts what an attempt decided.
func (m *metrics) settled(s *settlement) {
	for _, r := range s.records {
		outcome := string(r.Outcome)
		if r.Outcome == event.Failed && r.Reason == reasonExpired {
			outcome = "expired"
		}
		m.recipients.WithLabelValues(outcome).Add(float64(len(r.Recipients)))
	}
}

// class is the worst reply of an attempt.
func class(endings []ending) string {
	worst := delivered
	for i := range endings {
		worst = max(worst, endings[i].fate)
	}
	return map[fate]string{delivered: "2yz", delayed: "4yz", failed: "5yz"}[worst]
}
