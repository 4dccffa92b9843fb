// Package service is the shape that every service has: a name and a Run that
// blocks until its context ends. A Service runs the same as a process of its
// own (Main) and beside others in one process (Group).
//
// Failures: a process of one service ends with the error, for its supervisor
// (systemd, an orchestrator) to start it again. Beside others a service that
// was ready once is started again (Group.Supervise). A panic in a handler of
// the bus is an error of that handler; a panic elsewhere ends the process,
// because nobody knows what it left behind.
//
// What Main and the commands have in common lies here too: reading the
// configuration, reaching the bus, refusing one that is not durable, and the
// exit codes.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/telemetry"
)

// Grace is how long running work may take after a stop was asked for: it is
// finished, or handed back.
const Grace = 20 * time.Second

// Service is one of the relay's services.
type Service struct {
	// Name is what `postrider run` and the log call it.
	Name string
	// Run works until ctx ends. It calls env.Ready once it does its work.
	Run func(ctx context.Context, env *Env) error
}

// Env is what a process lends a service.
type Env struct {
	Config  *config.Config
	Bus     *queue.Bus
	Log     zerolog.Logger
	Metrics prometheus.Registerer
	// Instance names this process among others of its kind.
	Instance string

	ready    func()
	hindered func(by string, why error)
}

// Ready tells that the service does its work.
func (e *Env) Ready() {
	if e.ready != nil {
		e.ready()
	}
}

// Last returns what calls done when it is called for the nth time: of n things
// under way, the last tells. For 0 things it is done at once.
func Last(n int, done func()) func() {
	if n == 0 {
		done()
	}
	var told atomic.Int64
	return func() {
		if told.Add(1) == int64(n) {
			done()
		}
	}
}

// Hindered tells that the service runs and cannot do its work for now, and
// why; nil takes that back. by tells one hindrance from another.
func (e *Env) Hindered(by string, why error) {
	if e.hindered != nil {
		e.hindered(by, why)
	}
}

// NewInstance names this process: host, and a random part.
func NewInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "relay"
	}
	return strings.ReplaceAll(host, ".", "-") + "-" + strings.ToLower(rand.Text()[:6])
}

// Main runs services as a process of their own against bus.url and exits. With
// --healthcheck it asks such a process instead whether it is ready.
func Main(services ...Service) {
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	file := flags.String("config", "", "configuration `file` (default: $POSTRIDER_CONFIG, ./postrider.yaml, /etc/postrider/postrider.yaml)")
	healthcheck := flags.Bool("healthcheck", false, "ask the process that runs with this configuration whether it is ready: exit 0, or 1 and why not")
	flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := LoadConfig(*file)
	switch {
	case err != nil:
	case *healthcheck:
		err = CheckHealth(ctx, cfg)
	default:
		err = RunRemote(ctx, cfg, (*Group).Run, services...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[0]+": "+err.Error())
		os.Exit(ExitCode(err))
	}
}

// LoadConfig loads the configuration; what is wrong with it exits 2.
func LoadConfig(file string) (*config.Config, error) {
	cfg, err := config.LoadOrSandbox(file)
	if err != nil {
		return nil, &Exit{ExitUsage, err}
	}
	return cfg, nil
}

// ErrNoBus reports a configuration without a bus for a service of its own.
var ErrNoBus = errors.New("bus.url is empty: a service of its own needs a NATS server (\"postrider up\" embeds one)")

// RunRemote runs services against the bus of the configuration until ctx ends;
// run is Group.Run or Group.Supervise.
func RunRemote(ctx context.Context, cfg *config.Config, run func(*Group, context.Context, Env) error, services ...Service) error {
	if cfg.Bus.URL == "" {
		return ErrNoBus
	}
	log := telemetry.NewLog(os.Stderr, os.Getenv("POSTRIDER_LOG"))
	for _, w := range cfg.Warnings() {
		log.Warn().Msg(w.String())
	}
	instance := NewInstance()
	bus, err := Connect(ctx, cfg, instance, log)
	if err != nil {
		return err
	}
	defer bus.Close()
	metrics := telemetry.NewRegistry()
	group := NewGroup(services...)
	ServeTelemetry(ctx, telemetryAddress(cfg), metrics, group.Check, log)
	go func() {
		select {
		case <-group.Ready():
			log.Info().Str("instance", instance).Msg("ready")
		case <-ctx.Done():
		}
	}()
	return run(group, ctx, Env{Config: cfg, Bus: bus, Log: log, Metrics: metrics, Instance: instance})
}

// ServeTelemetry serves metrics and health in the background. Several
// processes of one host may share a configuration: the address goes to the
// first, the others say so and work without.
func ServeTelemetry(ctx context.Context, address string, metrics *prometheus.Registry, ready func() error, log zerolog.Logger) {
	if address == "" {
		return
	}
	go func() {
		if err := telemetry.Serve(ctx, address, metrics, ready); err != nil {
			log.Warn().Err(err).Str("address", address).Msg("no metrics and health endpoint; set POSTRIDER_METRICS to another address or to nothing")
		}
	}()
}

// connectPatience is how long a starting service waits for its bus.
const connectPatience = 30 * time.Second

// Connect reaches the bus of the configuration, refuses one that is not
// durable, and makes sure of the topology.
func Connect(ctx context.Context, cfg *config.Config, name string, log zerolog.Logger) (*queue.Bus, error) {
	var bus *queue.Bus
	give := time.Now().Add(connectPatience)
	waiting := false
	for {
		var err error
		bus, err = queue.Connect(queue.Connection{URL: cfg.Bus.URL, Credentials: cfg.Bus.Credentials, System: cfg.Bus.SystemCredentials, Name: name, Log: log})
		if err == nil {
			break
		}
		if time.Now().After(give) {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if !waiting {
			waiting = true
			log.Warn().Err(err).Dur("patience", connectPatience).Msg("waiting for the bus")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	if err := bus.VerifyDurable(ctx, cfg.Bus.SystemCredentials); err != nil {
		bus.Close()
		return nil, err
	}
	if err := ensure(ctx, bus, cfg, give); err != nil {
		bus.Close()
		return nil, err
	}
	return bus, nil
}

// ensure makes sure of the topology. A cluster that has just started, and finds
// its leaders, is given time.
func ensure(ctx context.Context, bus *queue.Bus, cfg *config.Config, give time.Time) error {
	for {
		err := queue.Ensure(ctx, bus.JS, queue.Replicas(bus.NC), time.Duration(cfg.Retention.Ledger))
		if err == nil || ctx.Err() != nil || time.Now().After(give) {
			return err
		}
		bus.Log.Warn().Err(err).Msg("cannot make sure of the streams yet, trying again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
