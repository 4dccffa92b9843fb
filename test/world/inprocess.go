package world

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/services/bounce"
	"github.com/postrider/postrider/services/delivery"
	"github.com/postrider/postrider/services/ingress"
	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/services/policy"
	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
)

// InProcess runs every service as goroutines over an embedded server.
func InProcess(t testing.TB, w *World) {
	t.Helper()
	w.Bus = queuetest.Connect(t, queuetest.Server(t, w.Config.Relay.Data))
	if err := queue.Ensure(t.Context(), w.Bus.JS, 1, time.Duration(w.Config.Retention.Ledger)); err != nil {
		t.Fatal(err)
	}
	group := service.NewGroup(ledger.Service, ingress.Service, policy.Service, signer.Service, delivery.Service, bounce.Service)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- group.Run(ctx, service.Env{Config: w.Config, Bus: w.Bus, Log: queuetest.Log(t), Metrics: prometheus.NewRegistry(), Instance: service.NewInstance()})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-group.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal(group.Check())
	}
}
