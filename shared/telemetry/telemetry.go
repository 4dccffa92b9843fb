// Package telemetry is how a process tells about itself: one JSON object per
// log line on stderr (or a human form on a terminal), Prometheus metrics, and
// the health endpoints. Metric names begin with postrider_, units are base
// units, label values come from bounded sets.
package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// NewLog makes the process's log. On a terminal it is made for reading;
// elsewhere every line is one JSON object. level is a zerolog level name;
// empty means info.
func NewLog(w *os.File, level string) zerolog.Logger {
	var out io.Writer = w
	if info, err := w.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		out = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: os.Getenv("NO_COLOR") != ""}
	}
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		l = zerolog.InfoLevel
	}
	return zerolog.New(out).Level(l).With().Timestamp().Logger()
}

// NewRegistry is a metrics registry with those of the Go runtime.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Serve answers /metrics, /healthz (the process lives) and /readyz (it can do
// its work; ready returns why not) until ctx ends. An address that cannot be
// had is an error.
func Serve(ctx context.Context, address string, metrics *prometheus.Registry, ready func() error) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
