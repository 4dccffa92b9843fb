package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/services/bounce"
	"github.com/postrider/postrider/services/delivery"
	"github.com/postrider/postrider/services/ingress"
	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/services/policy"
	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/telemetry"
)

// services are all of them, in the order of a message's life. The order has
// no meaning: each finds an empty queue until its neighbour runs.
func services() []service.Service {
	return []service.Service{ledger.Service, ingress.Service, policy.Service, signer.Service, delivery.Service, bounce.Service}
}

func newUp(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Run all services and an embedded JetStream in one process",
		Long: `Run all services in one process, with the bus inside (or at bus.url). A service
that fails after it was ready is started again; the others go on.

Without a configuration file this is the sandbox: listeners on loopback only,
any loopback sender to any recipient, and every message goes to a built-in
mailbox. Nothing leaves the machine.

  postrider up
  swaks --server 127.0.0.1:2525 --from me@example.test --to you@example.test
  postrider sandbox show`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := service.LoadConfig(f.config)
			if err != nil {
				return err
			}
			return up(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
}

// recent is how much of what ingress stored the process keeps for the signer and
// delivery, in octets.
const recent = 48 << 20

// up runs everything until ctx ends.
func up(ctx context.Context, cfg *config.Config, out io.Writer) error {
	level := os.Getenv("POSTRIDER_LOG")
	if level == "" && cfg.Sandbox {
		level = "warn"
	}
	log := telemetry.NewLog(os.Stderr, level)
	for _, w := range cfg.Warnings() {
		log.Warn().Msg(w.String())
	}
	bus, check, stopBus, err := openBus(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer stopBus()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.Sandbox {
		stopMailbox, err := openMailbox(ctx, cfg)
		if err != nil {
			return err
		}
		defer stopMailbox()
	}
	tune(ctx, cfg.Bus.URL == "")
	bus.Recent = queue.NewRecent(recent)
	metrics := telemetry.NewRegistry()
	group := service.NewGroup(services()...)
	group.Watch("bus", check)
	service.ServeTelemetry(ctx, cfg.Metrics.Address, metrics, group.Check, log)
	go func() {
		select {
		case <-group.Ready():
			banner(out, cfg)
		case <-ctx.Done():
		}
	}()
	err = group.Supervise(ctx, service.Env{Config: cfg, Bus: bus, Log: log, Metrics: metrics, Instance: service.NewInstance()})
	var busy *net.OpError
	if errors.As(err, &busy) && strings.Contains(err.Error(), "address already in use") {
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%w\nIs another postrider or mail server running there? Stop it, or set listeners in a configuration file (postrider init)", err)}
	}
	return err
}

// openBus starts the embedded bus, or connects to that of the configuration.
// check says what is wrong with it.
func openBus(ctx context.Context, cfg *config.Config, log zerolog.Logger) (bus *queue.Bus, check func() error, stop func(), err error) {
	if cfg.Bus.URL != "" {
		bus, err := service.Connect(ctx, cfg, service.NewInstance(), log)
		if err != nil {
			return nil, nil, nil, err
		}
		return bus, func() error { return nil }, bus.Close, nil
	}
	server, err := natsd.Start(ctx, natsd.Options{
		Dir: cfg.Relay.Data, Purpose: purpose(cfg), EncryptionKeyFile: cfg.Bus.EncryptionKeyFile, Log: log,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	bus, err = queue.Connect(queue.Connection{
		URL: server.Access().URL, Credentials: server.Access().Credentials, Name: "postrider-up", InProcess: server, Log: log,
	})
	if err != nil {
		server.Stop()
		return nil, nil, nil, err
	}
	stop = func() {
		bus.Close()
		server.Stop()
	}
	err = queue.Ensure(ctx, bus.JS, 1, time.Duration(cfg.Retention.Ledger))
	if err == nil {
		// The directory is locked: whoever is registered was killed.
		err = queue.ForgetWorkers(ctx, bus.JS)
	}
	if err != nil {
		stop()
		return nil, nil, nil, err
	}
	return bus, server.Check, stop, nil
}

func purpose(cfg *config.Config) string {
	if cfg.Sandbox {
		return "sandbox"
	}
	return "production"
}

// openMailbox starts the sandbox's mailbox and routes everything to it.
func openMailbox(ctx context.Context, cfg *config.Config) (stop func(), err error) {
	store, err := smtptest.OpenMaildir(sandboxDir(cfg))
	if err != nil {
		return nil, fmt.Errorf("open the sandbox mailbox: %w", err)
	}
	mx, err := smtptest.New(smtptest.Options{Addrs: []string{"127.0.0.1:0"}, Hostname: "mailbox.sandbox.postrider.test", Store: store})
	if err != nil {
		store.Close()
		return nil, fmt.Errorf("open the sandbox mailbox: %w", err)
	}
	cfg.Delivery.Routes = []config.Route{{Domain: "*", To: "smtp://" + mx.Addr()}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		mx.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
		store.Close()
	}, nil
}

func sandboxDir(cfg *config.Config) string { return filepath.Join(cfg.Relay.Data, "sandbox") }

// banner says what runs and what to do next.
func banner(out io.Writer, cfg *config.Config) {
	w := &strings.Builder{}
	if cfg.Sandbox {
		fmt.Fprintf(w, "Postrider sandbox is ready. Nothing leaves this machine.\n\n")
	} else {
		fmt.Fprintf(w, "Postrider %s is ready.\n\n", cfg.Relay.Hostname)
	}
	for _, l := range cfg.Listeners {
		what := map[config.ListenerMode]string{
			config.ModeRelay: "relay, STARTTLS", config.ModeSubmission: "submission, STARTTLS", config.ModeSubmissions: "submission, TLS from the start",
		}[l.Mode]
		fmt.Fprintf(w, "  %-22s %s\n", l.Address, what)
	}
	if len(cfg.Listeners) == 0 {
		fmt.Fprintf(w, "  no listeners are configured: nothing can be submitted\n")
	}
	fmt.Fprintf(w, "  %-22s data\n", cfg.Relay.Data)
	if cfg.Sandbox {
		fmt.Fprintf(w, `
Any name and password will do for AUTH (on TLS), and none, too: a real relay asks.
Send a message (or point your program at 127.0.0.1:2525):
  swaks --server 127.0.0.1:2525 --from me@example.test --to you@example.test
See it as the recipient would:
  postrider sandbox show
Follow it, by the id in the reply "queued as ...":
  postrider trace ID
See one come back: the recipient's name is the reply, as 550@example.test or 450@example.test.
Make a relay of your own:
  postrider init DIR

(From the source tree: go run ./cmd/postrider sandbox show)
`)
	} else {
		fmt.Fprintf(w, "\nNext:  postrider status   postrider trace ID   postrider queue ls\n")
	}
	fmt.Fprintf(w, "\nCtrl-C stops it; what is queued is kept.\n")
	io.WriteString(out, w.String())
}
