package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/config"
)

// healthPatience bounds one question.
const healthPatience = 3 * time.Second

// maxAnswer bounds, in octets, what is read of an answer.
const maxAnswer = 1 << 10

// telemetryAddress is where a process serves metrics and health:
// $POSTRIDER_METRICS, which may be empty for nowhere, or metrics.address.
func telemetryAddress(cfg *config.Config) string {
	if address, ok := os.LookupEnv("POSTRIDER_METRICS"); ok {
		return address
	}
	return cfg.Metrics.Address
}

// errNoTelemetry reports a process that cannot be asked.
var errNoTelemetry = &Exit{ExitUsage, errors.New("neither metrics.address nor POSTRIDER_METRICS says where to ask")}

// CheckHealth asks the process that runs beside this one with the same
// configuration whether it is ready. Nil is yes; the error says why not. An
// image with nothing in it but the program has no other way to ask.
func CheckHealth(ctx context.Context, cfg *config.Config) error {
	address := telemetryAddress(cfg)
	if address == "" {
		return errNoTelemetry
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	resp, err := direct(address).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	return fmt.Errorf("%s says %s: %s", address, resp.Status, strings.TrimSpace(string(answer)))
}

// direct connects to address whatever the request names, and by no proxy.
// Dialing 0.0.0.0 or [::] reaches this machine, so that the address a process
// listens on serves to ask it.
func direct(address string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
}
