package service

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queuetest"
)

// faulty is a service that fails when it is told to, and registers a metric
// each time it runs.
type faulty struct {
	fail chan error
	runs []time.Duration // since the start of the test
	from time.Time
}

func newFaulty() *faulty { return &faulty{fail: make(chan error), from: time.Now()} }

func (f *faulty) run(ctx context.Context, env *Env) error {
	f.runs = append(f.runs, time.Since(f.from).Round(time.Second))
	promauto.With(env.Metrics).NewCounter(prometheus.CounterOpts{Name: "postrider_tested_total", Help: "Tests."}).Inc()
	env.Ready()
	select {
	case err := <-f.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A service that fails is started again after a pause that grows, the others
// go on, and everybody can see it.
func TestSupervise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		others := 0
		g := NewGroup(Service{"faulty", f.run}, Service{"other", func(ctx context.Context, env *Env) error {
			others++
			env.Ready()
			<-ctx.Done()
			return nil
		}})
		metrics := prometheus.NewRegistry()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Supervise(ctx, Env{Log: zerolog.Nop(), Metrics: metrics}) }()
		<-g.Ready()
		for range 7 {
			f.fail <- errors.New("disk is gone")
			synctest.Wait()
			if err := g.Check(); err == nil || !strings.HasPrefix(err.Error(), "not ready: faulty: failed (disk is gone), ") || strings.Contains(err.Error(), "other") {
				t.Errorf("while it is down: %v", err)
			}
		}
		f.fail <- nil // it ends unasked
		synctest.Wait()
		if err := g.Check(); err == nil || !strings.Contains(err.Error(), "ended by itself") || !strings.Contains(err.Error(), "8 times") {
			t.Errorf("after it ended by itself: %v", err)
		}
		time.Sleep(restartLast + restartCalm + time.Second) // it works long enough to be forgiven
		f.fail <- errors.New("once more")
		time.Sleep(restartFirst + time.Second)
		if err := g.Check(); err != nil {
			t.Errorf("when it works again: %v", err)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31, 61, 91, 121, 183}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(f.runs, want) {
			t.Errorf("runs began at %v, want %v", f.runs, want)
		}
		if others != 1 {
			t.Errorf("the other service ran %d times", others)
		}
		if got := counted(t, metrics, "postrider_service_failures_total"); got != 9 {
			t.Errorf("%v failures counted", got)
		}
		if got := counted(t, metrics, "postrider_tested_total"); got != 1 {
			t.Errorf("the metric of the last run is %v", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("asked to stop, it ended with %v", err)
		}
	})
}

// counted is the sum of a counter.
func counted(t *testing.T, metrics *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// Before it was ever ready a service is not started again: what is wrong with
// it will be wrong the next time.
func TestSuperviseNotAtTheStart(t *testing.T) {
	why := &Exit{ExitConflict, errors.New("index is in use")}
	g := NewGroup(
		Service{"ledger", func(context.Context, *Env) error { return why }},
		Service{"other", func(ctx context.Context, env *Env) error { env.Ready(); <-ctx.Done(); return nil }},
	)
	err := g.Supervise(t.Context(), Env{Log: zerolog.Nop()})
	if !errors.Is(err, why) || ExitCode(err) != ExitConflict {
		t.Errorf("ended with %v", err)
	}
}

// A stop that comes while a service waits to be started again is not held up.
func TestSuperviseStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		g := NewGroup(Service{"faulty", f.run})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Supervise(ctx, Env{Log: zerolog.Nop()}) }()
		<-g.Ready()
		f.fail <- errors.New("disk is gone")
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || time.Since(f.from) > 0 {
			t.Errorf("ended after %s with %v", time.Since(f.from), err)
		}
	})
}

// What hinders a service counts until it is taken back, or the service ends.
func TestHindered(t *testing.T) {
	hinder := make(chan func(*Env), 1)
	done := make(chan struct{})
	g := NewGroup(Service{"ingress", func(ctx context.Context, env *Env) error {
		env.Ready()
		for {
			select {
			case h := <-hinder:
				h(env)
				done <- struct{}{}
			case <-ctx.Done():
				return nil
			}
		}
	}})
	var bus error
	g.Watch("bus", func() error { return bus })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx, Env{Log: zerolog.Nop()}) }()
	<-g.Ready()
	expect := func(want string) {
		t.Helper()
		if err := g.Check(); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("says %v, want %q", err, want)
		}
	}
	tell := func(by, why string) {
		hinder <- func(env *Env) {
			if why == "" {
				env.Hindered(by, nil)
				return
			}
			env.Hindered(by, errors.New(why))
		}
		<-done
	}
	expect("")
	tell("store", "the store is full")
	tell("shards", "MAIL_2 does not acknowledge")
	expect("not ready: ingress: MAIL_2 does not acknowledge; the store is full")
	tell("shards", "")
	expect("not ready: ingress: the store is full")
	tell("store", "")
	tell("store", "")
	expect("")
	bus = errors.New("is started again")
	expect("not ready: bus: is started again")
	bus = nil
	tell("store", "the store is full")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	expect("not ready: ingress")
}

// Every process answers for itself, as long as it runs.
func TestAskHealth(t *testing.T) {
	bus := queuetest.Start(t)
	ask := func(processes int) []Health {
		t.Helper()
		all, err := AskHealth(t.Context(), bus)
		if err != nil || len(all) != processes {
			t.Fatalf("%+v %v", all, err)
		}
		return all
	}
	ask(0)
	hindered := make(chan struct{})
	run := func(instance string, services ...Service) (stop func()) {
		g := NewGroup(services...)
		g.Watch("bus", func() error { return errors.New("is slow") })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx, Env{Bus: bus, Log: zerolog.Nop(), Instance: instance}) }()
		<-g.Ready()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	works := func(ctx context.Context, env *Env) error { env.Ready(); <-ctx.Done(); return nil }
	stopB := run("b", Service{"policy", works}, Service{"ingress", func(ctx context.Context, env *Env) error {
		env.Hindered("store", errors.New("the store is full"))
		close(hindered)
		return works(ctx, env)
	}})
	stopA := run("a", Service{"delivery", works})
	<-hindered
	room, err := bus.Room(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := ask(2)
	if a := all[0]; a.Instance != "a" || len(a.Services) != 1 || !a.Services[0].Ready || a.Services[0].Service != "delivery" || !slices.Equal(a.Problems, []string{"bus: is slow"}) {
		t.Errorf("%+v", a)
	}
	if b := all[1]; b.Instance != "b" || len(b.Services) != 2 || !slices.Equal(b.Services[1].Problems, []string{"the store is full"}) || b.Store == nil || *b.Store != room {
		t.Errorf("%+v", b)
	}
	stopA()
	stopB()
	ask(0)
}
