package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/services/delivery"
	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

// setBack makes LEDGER look as if it had been further.
func setBack(ctx context.Context, bus *queue.Bus) error {
	end, err := bus.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	end.Seq, end.Time = end.Seq+1000, time.Now().UTC()
	return bus.Accuse(ctx, end)
}

// While LEDGER is rolled back, delivery holds its mail on purpose: status does
// not call for another start, but says what to read and to confirm.
func TestStatusWhileHeld(t *testing.T) {
	late := service.Service{Name: delivery.Service.Name, Run: func(ctx context.Context, env *service.Env) error {
		if err := setBack(ctx, env.Bus); err != nil {
			return err
		}
		return delivery.Service.Run(ctx, env)
	}}
	r := partial(t, ledger.Service, late)
	var got result
	timetest.Await(t, "a plan waits", func() bool {
		got = r.do("status")
		return strings.Contains(got.stdout, "postrider ledger recover --confirm ID")
	})
	for _, want := range []string{"! holds", "x nothing is sent: LEDGER is behind its mark", "postrider ledger recover --plan", "policy does not work: start it"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("status does not say %q:\n%s", want, got.stdout)
		}
	}
	if got.code != 10 || strings.Contains(got.stdout, "delivery does not work") || strings.Count(got.stdout, "LEDGER is behind") != 1 {
		t.Errorf("status exits %d:\n%s", got.code, got.stdout)
	}
	var h health
	if err := json.Unmarshal([]byte(r.do("status", "-o", "json").stdout), &h); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(h.Stages, func(s stageHealth) bool { return s.Stage == "delivery" }); !h.Stages[i].Held || h.Stages[i].Missing {
		t.Errorf("%+v", h.Stages[i])
	}
}

// Without delivery, somebody must start it first.
func TestStatusWhileHeldWithoutDelivery(t *testing.T) {
	r := partial(t, ledger.Service)
	_, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	timetest.Await(t, "LEDGER is set back", func() bool { return setBack(t.Context(), bus) == nil })
	if got := r.do("status"); !strings.Contains(got.stdout, "x delivery does not work: start it") || !strings.Contains(got.stdout, "x nothing is sent: LEDGER is behind its mark") {
		t.Errorf("status:\n%s", got.stdout)
	}
}
