package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
)

// Group runs services in one process.
type Group struct {
	members []*member
	ready   chan struct{}
	checks  []check

	mu      sync.Mutex // of the members
	pending int        // members that were never ready
}

// member is a service of a group, and how it fares.
type member struct {
	Service
	everReady, ready bool
	failures         int
	failure          error     // the last one
	again            time.Time // when it is started again, after a failure
	hindrances       map[string]error
}

// check is something beside the services that a process rests on.
type check struct {
	name string
	ask  func() error
}

// NewGroup prepares services to be run together.
func NewGroup(services ...Service) *Group {
	g := &Group{ready: make(chan struct{}), pending: len(services)}
	for _, s := range services {
		g.members = append(g.members, &member{Service: s, hindrances: map[string]error{}})
	}
	return g
}

// Watch makes something else count for readiness: ask says what is wrong with
// it. It is for before Run.
func (g *Group) Watch(name string, ask func() error) {
	g.checks = append(g.checks, check{name, ask})
}

// Ready is closed when every service has done its work at some time.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Check is nil when every service does its work, and names those that do not.
func (g *Group) Check() error {
	var wrong []string
	for _, c := range g.conditions() {
		if !c.Ready || len(c.Problems) > 0 {
			wrong = append(wrong, c.String())
		}
	}
	wrong = append(wrong, g.troubles()...)
	if len(wrong) > 0 {
		return fmt.Errorf("not ready: %s", strings.Join(wrong, ", "))
	}
	return nil
}

// troubles are what the process rests on and is not well.
func (g *Group) troubles() (out []string) {
	for _, c := range g.checks {
		if err := c.ask(); err != nil {
			out = append(out, c.name+": "+err.Error())
		}
	}
	return out
}

// Run runs the services until ctx ends or one of them fails; then all stop.
func (g *Group) Run(ctx context.Context, env Env) error { return g.run(ctx, env, false) }

// Supervise runs the services until ctx ends. One that fails after it was
// ready is started again, after a pause that grows while it keeps failing; the
// others go on. One that fails before it was ever ready ends the group: a wrong
// configuration is no better the second time.
func (g *Group) Supervise(ctx context.Context, env Env) error { return g.run(ctx, env, true) }

func (g *Group) run(ctx context.Context, env Env, again bool) error {
	defer g.answer(&env)()
	failures := counter(env.Metrics)
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range g.members {
		group.Go(func() error { return g.keep(ctx, m, &env, failures, again) })
	}
	return group.Wait()
}

// counter counts failures by service. A group without metrics counts for itself.
func counter(metrics prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_service_failures_total",
		Help: "Failures of a service after which it was started again in the same process.",
	}, []string{"service"})
}

// Pauses before a service is started again. One that worked for restartCalm is
// forgiven its earlier failures.
const (
	restartFirst = time.Second
	restartLast  = 30 * time.Second
	restartCalm  = time.Minute
)

// keep runs one service until ctx ends, or until it fails and is not started
// again.
func (g *Group) keep(ctx context.Context, m *member, env *Env, failures *prometheus.CounterVec, again bool) error {
	for pause := restartFirst; ; pause = min(2*pause, restartLast) {
		began := time.Now()
		err := g.once(ctx, m, env)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil { // unasked: a relay without it would look well
			err = errors.New("ended by itself")
		}
		if !again || !m.everReady {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		if time.Since(began) > restartCalm {
			pause = restartFirst
		}
		g.fail(m, err, pause)
		failures.WithLabelValues(m.Name).Inc()
		env.Log.Error().Err(err).Str("stage", m.Name).Int("failures", m.failures).Dur("again_in", pause).Msg("service failed, it is started again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// once runs a service with metrics and a condition of its own: a second run
// begins with neither.
func (g *Group) once(ctx context.Context, m *member, env *Env) error {
	own := *env
	own.Log = env.Log.With().Str("stage", m.Name).Logger()
	own.ready = func() { g.worked(m) }
	own.hindered = func(by string, why error) { g.hinder(m, by, why) }
	if env.Metrics != nil {
		lent := &lending{Registerer: env.Metrics}
		defer lent.takeBack()
		own.Metrics = lent
	}
	defer g.ended(m)
	return m.Run(ctx, &own)
}

func (g *Group) worked(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.ready = true
	if m.everReady {
		return
	}
	m.everReady = true
	if g.pending--; g.pending == 0 {
		close(g.ready)
	}
}

func (g *Group) hinder(m *member, by string, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why == nil {
		delete(m.hindrances, by)
		return
	}
	m.hindrances[by] = why
}

func (g *Group) ended(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.ready = false
	clear(m.hindrances)
}

func (g *Group) fail(m *member, why error, pause time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.failures++
	m.failure, m.again = why, time.Now().Add(pause)
}

// lending passes registrations on, and takes them back when the service that
// made them has ended: the next run registers the same.
type lending struct {
	prometheus.Registerer
	mu   sync.Mutex
	lent []prometheus.Collector
}

// Register registers a collector until takeBack.
func (l *lending) Register(c prometheus.Collector) error {
	if err := l.Registerer.Register(c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent = append(l.lent, c)
	return nil
}

// MustRegister is Register for what cannot fail.
func (l *lending) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		if err := l.Register(c); err != nil {
			panic(err)
		}
	}
}

func (l *lending) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.lent {
		l.Unregister(c)
	}
}
