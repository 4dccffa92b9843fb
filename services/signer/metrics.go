package signer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	seconds prometheus.Histogram
	errors  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		seconds: promauto.With(r).NewHistogram(prometheus.HistogramOpts{
			Name:    "postrider_dkim_sign_seconds",
			Help:    "Time to read and sign one message with every key.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		errors: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "postrider_dkim_sign_errors_total",
			Help: "Messages delayed because they could not be signed.",
		}),
	}
}
