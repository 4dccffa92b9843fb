// Package ingress is the submission server (MSA, RFC 6409): it speaks SMTP
// with the devices.
//
// Consumes SMTP on the configured listeners: relay, submission, and
// submissions (implicit TLS). Produces messages in MAIL, chunks of large ones
// in BODY, canaries in MAIL where no mail shows that a shard acknowledges, and
// the evidence of refusals, and of clients that left without sending, in REFUSED.
//
// Guarantees: 250 is sent only after the store acknowledged that the message
// is on stable storage. A store that is full is answered 452 4.3.1, one that
// does not answer 451 4.3.0, both within 10 s of the final dot; what the latter
// may have stored is marked late in LEDGER. From 85 % of the store on MAIL is
// answered 452 4.3.1, so that what becomes of the accepted mail always fits.
// It is ready while every shard of MAIL acknowledges and has room. Whatever
// authorization can decide is decided before the final reply, from the
// registry snapshot in memory: a refusal costs no hop and works with every
// other service down. Messages are streamed; memory does not grow with their
// size. The content is not altered: Received, and Date and Message-ID where
// missing, are put before it (RFC 6409 §8), and a missing line between header
// and body is added. Only for a device registered so (registry.Quirks) are its
// reverse-path and From field replaced or completed, and its newlines repaired;
// the event names each, with what was there before.
//
// A device over its limits by the hour, which all instances hold together
// (package budget), waits for a reply up to some seconds, and its message is
// recorded as over (Facts.Over): authorization has it held. A host that is not
// registered is told to come again.
//
// Failures: every error is an SMTP reply, 451 unless it says otherwise: our own
// trouble is never answered 5xx. Texts reveal nothing internal and begin with a
// reference, under which the evidence lies in REFUSED.
//
// go-smtp parses the commands behind package wire, which owns TLS, framing and
// line discipline.
package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/services/ingress/authority"
	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/budget"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// Service is ingress for a process to run.
var Service = service.Service{Name: "ingress", Run: Run}

// Ingress is what all sessions of a process share.
type Ingress struct {
	ctx      context.Context // of work: outlives the stop by service.Grace
	bus      *queue.Bus
	cfg      *config.Config
	rules    *authz.Rules
	registry func() *registry.Snapshot
	current  func() bool // the snapshot has what the registry had at the last connect
	// mailboxes knows whether a sender exists; nil when no rule asks.
	mailboxes   *mailbox.Asker
	names       *dnsx.Resolver // nil when no rule asks for names
	ids         *mail.QueueIDs
	authorities *authority.Authorities
	log         zerolog.Logger
	evidence    *evidence
	intake      *intake
	late        *late
	budgets     *budget.Budgets
	metrics     *metrics
}

// Run accepts mail until ctx ends: then idle sessions get 421, busy ones
// finish their message.
func Run(ctx context.Context, env *service.Env) error {
	reg, err := store.Open(ctx, env.Bus, env.Config.FileEntries())
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	in := &Ingress{
		ctx: work, bus: env.Bus, cfg: env.Config, rules: env.Config.Rules(), registry: reg.Snapshot, current: reg.Current,
		ids: mail.NewQueueIDs(), log: env.Log, metrics: newMetrics(env.Metrics),
	}
	if in.authorities, err = authority.Open(env.Config, reg.Snapshot, env.Log); err != nil {
		return err
	}
	if subjects := in.asksSenders(); len(subjects) > 0 {
		in.mailboxes = mailbox.New(env.Bus, subjects...)
	}
	if in.budgets, err = budget.Open(ctx, env.Bus); err != nil {
		return err
	}
	in.evidence = newEvidence(keep(env.Bus), env.Log, in.metrics.dropped)
	in.intake = newIntake(env.Bus, env.Log, in.metrics, env.Hindered)
	in.late = newLate(recordLate(env.Bus), env.Log, in.metrics.late)
	if in.rules.FCrDNS != authz.Off && !in.rules.Sandbox {
		if in.names, err = dnsx.New(dnsx.Config{Servers: env.Config.DNS.Servers()}); err != nil {
			return fmt.Errorf("open resolver: %w", err)
		}
		defer in.names.Close()
	}
	certificate, err := OpenCertificate(env.Config, env.Log)
	if err != nil {
		return err
	}
	in.metrics.expiry(env.Metrics, certificate)
	listeners, err := in.listen(certificate)
	if err != nil {
		return err
	}
	var keeping sync.WaitGroup
	keeping.Go(func() { in.evidence.run(work) })
	keeping.Go(func() { in.intake.run(work) })
	keeping.Go(func() { in.late.run(work) })
	keeping.Go(func() { in.budgets.Run(work) })
	defer keeping.Wait() // sessions that end are refused things, too
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return certificate.Watch(ctx) })
	group.Go(func() error {
		return reg.Follow(ctx, func() {
			for _, l := range listeners {
				group.Go(func() error { return in.serve(ctx, l) })
			}
			group.Go(func() error {
				in.intake.prove(ctx)
				env.Ready()
				return nil
			})
		})
	})
	err = group.Wait()
	for _, l := range listeners {
		l.inner.Close()
	}
	return err
}

// asksSenders are those who are asked about the mailbox behind the reverse-path, by
// the rules about it.
func (in *Ingress) asksSenders() (subjects []string) {
	wanted := func(m authz.Mode) bool { return m != authz.Off && m != "" }
	exists, personal := wanted(in.rules.SenderMustExist), wanted(in.rules.PersonalSender)
	if in.rules.Sandbox {
		return nil
	}
	if (exists || personal) && in.cfg.Policy.Directory != nil {
		subjects = append(subjects, mailbox.Directory)
	}
	if exists {
		subjects = append(subjects, mailbox.Subject)
	}
	return subjects
}

// listener is one configured address, bound.
type listener struct {
	config.Listener
	inner net.Listener
	wire  wire.Config
}

// listen binds every address before the first message is accepted, so that a
// port that is taken is an error at start.
func (in *Ingress) listen(certificate *Certificate) ([]*listener, error) {
	var out []*listener
	for _, l := range in.cfg.Listeners {
		inner, err := net.Listen("tcp", l.Address)
		if err != nil {
			for _, o := range out {
				o.inner.Close()
			}
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		bound := &listener{Listener: l, inner: inner}
		bound.wire = wire.Config{
			Hostname: in.cfg.Relay.Hostname, TLS: serverTLS(l, certificate.Config(), in.registry), ImplicitTLS: l.Mode == config.ModeSubmissions,
			Auth: in.cfg.Auth.Any() || in.rules.Sandbox, MaxSize: int64(in.cfg.Limits.MessageSize),
			MaxRecipients: in.cfg.Limits.Recipients,
			Refused:       func(r wire.Refusal) replyOf { return in.refusedByWire(l, r) },
		}
		if in.rules.Helo == authz.Enforce {
			bound.wire.NoHelo = "&"
		}
		if legacy(l) && !certificate.RSA() {
			in.log.Warn().Str("listener", l.Name).Msg("ciphers: legacy, and tls.certificate has no RSA key: the oldest devices can use no other")
		}
		if l.Limits != nil {
			bound.wire.MaxConnections, bound.wire.MaxConnectionsPerAddress = l.Limits.Connections, l.Limits.PerAddress
		}
		out = append(out, bound)
	}
	return out, nil
}

// serve accepts on one listener until ctx ends.
func (in *Ingress) serve(ctx context.Context, l *listener) error {
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(c *gosmtp.Conn) (gosmtp.Session, error) {
		return in.newSession(l, c.Conn().(*wire.Conn)), nil
	}))
	wire.Configure(server, l.wire)
	server.MaxRecipients = maxRecipients // authorization knows how many a device may have
	server.ErrorLog = log.New(panics{in.log}, "", 0)
	accept := wire.NewListener(l.inner, l.wire)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), service.Grace)
		defer cancel()
		accept.Shutdown(grace)
	})
	err := server.Serve(accept)
	if !stop() {
		<-stopped // sessions finish their message
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, gosmtp.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("listener %s: %w", l.Name, err)
}

// panics passes on what go-smtp reports of a panic, which it answers 421. The
// rest of its log are mistakes of clients.
type panics struct{ log zerolog.Logger }

func (p panics) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("panic")) {
		p.log.Error().Msg(string(line))
	}
	return len(line), nil
}
