package service

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
)

func TestCheckHealth(t *testing.T) {
	serve := func(status int, body string) (port string) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asked %s", r.URL.Path)
			}
			w.WriteHeader(status)
			w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		_, port, err := net.SplitHostPort(server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	ready := serve(http.StatusOK, "ready\n")
	starting := serve(http.StatusServiceUnavailable, "not ready: signer\n")
	elsewhere := serve(http.StatusFound, "")
	endless := serve(http.StatusServiceUnavailable, strings.Repeat("x", 1<<20))
	for _, c := range []struct {
		name, configured string
		environment      *string
		code             int
		says             string
	}{
		{"ready", "127.0.0.1:" + ready, nil, ExitDone, ""},
		{"ready, listens on every address", "0.0.0.0:" + ready, nil, ExitDone, ""},
		{"ready, no host", ":" + ready, nil, ExitDone, ""},
		{"not ready", "127.0.0.1:" + starting, nil, ExitError, "503 Service Unavailable: not ready: signer"},
		{"any other answer", "127.0.0.1:" + elsewhere, nil, ExitError, "302 Found"},
		{"an answer without end", "127.0.0.1:" + endless, nil, ExitError, "503"},
		{"nobody there", "127.0.0.1:1", nil, ExitError, "connection refused"},
		{"the environment decides", "127.0.0.1:1", pointer("127.0.0.1:" + ready), ExitDone, ""},
		{"nowhere to ask", "", nil, ExitUsage, "metrics.address"},
		{"nowhere by the environment", "127.0.0.1:" + ready, pointer(""), ExitUsage, "POSTRIDER_METRICS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.environment != nil {
				t.Setenv("POSTRIDER_METRICS", *c.environment)
			}
			cfg := config.Defaults()
			cfg.Metrics.Address = c.configured
			err := CheckHealth(t.Context(), cfg)
			if ExitCode(err) != c.code {
				t.Errorf("exit code %d, want %d: %v", ExitCode(err), c.code, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || len(err.Error()) > 2*maxAnswer) {
				t.Errorf("error %.200q, want %q in it", err, c.says)
			}
		})
	}
}

func pointer(s string) *string { return &s }
