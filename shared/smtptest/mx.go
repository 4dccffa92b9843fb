package smtptest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrOptions is wrapped by the errors of New that no second try will cure.
var ErrOptions = errors.New("bad options")

// Options say what the MX is. The zero value is an MX in memory that offers
// everything but AUTH, with a made certificate.
type Options struct {
	// Addrs are the addresses to listen on. Without one the MX has no
	// listener and serves what is given to ServeConn; Start then listens on a
	// free port of 127.0.0.1.
	Addrs []string
	// Hostname is the name in the greeting and in the made certificate;
	// "mx.postrider.test" by default.
	Hostname string
	// TLS is used instead of a made certificate.
	TLS *tls.Config
	// Authority issues the made certificate; nil makes a new authority.
	Authority *Authority
	// NoTLS offers no STARTTLS.
	NoTLS bool
	// ImplicitTLS speaks TLS from the first octet (RFC 8314 §3).
	ImplicitTLS bool
	// LMTP speaks RFC 2033.
	LMTP bool
	// User and Password, when User is set, must be given by AUTH before MAIL.
	// AUTH is offered under TLS only, unless NoTLS is set.
	User, Password string
	// Without hides EHLO keywords, for example "PIPELINING"; their use is
	// then refused. With adds lines, for example "DSN" or "REQUIRETLS"; the
	// parameters of DSN are then accepted.
	Without, With []string
	// At has an action of the grammar for a stage and every client, for
	// example {StageStartTLS: "454", StageConnect: "tarpit-30s"}. What the
	// address asks for goes first.
	At map[Stage]string
	// Store keeps the mail; nil is a Memory.
	Store Store
	// NoDigest leaves the digests of a Delivery empty, for speed.
	NoDigest bool
	// MaxSize bounds the content, in octets; 0 is 64 MiB, negative is none.
	MaxSize int64
	// MaxConnections answers 421 to more at a time; 0 is no limit.
	MaxConnections int
	// MaxTransactions answers 421 to the MAIL after so many on one
	// connection; 0 is no limit.
	MaxTransactions int
	// MaxRecipients answers 452 to the RCPT after so many (RFC 5321
	// §4.5.3.1.10); 0 is 1000.
	MaxRecipients int
	// Idle closes a connection that is silent for so long; 0 is 5 minutes (RFC
	// 5321 §4.5.3.2.7).
	Idle time.Duration
	// Transcripts records every session, for Transcripts. For tests only: the
	// record grows without bound.
	Transcripts bool
}

// MX is an obedient mail exchanger.
type MX struct {
	options   Options
	tls       *tls.Config
	authority *Authority
	store     Store
	memory    *Memory // nil with another store
	at        map[Stage]Behaviour
	attempts  attempts
	tally     tally
	listeners []net.Listener
	readers   sync.Pool

	mu          sync.Mutex
	transcripts []*Transcript
}

// New makes the certificate and binds the listeners; Run serves them.
func New(options Options) (*MX, error) {
	options.Hostname = cmp.Or(options.Hostname, "mx.postrider.test")
	options.MaxSize = max(cmp.Or(options.MaxSize, 64<<20), 0)
	options.MaxRecipients = cmp.Or(options.MaxRecipients, 1000)
	options.Idle = cmp.Or(options.Idle, 5*time.Minute)
	mx := &MX{options: options, store: options.Store, at: make(map[Stage]Behaviour)}
	if mx.store == nil {
		mx.memory = &Memory{}
		mx.store = mx.memory
	}
	for stage, action := range options.At {
		b, ok := parseBehaviour(action, stage)
		if !ok || b.Stage != stage || !stage.known() {
			return nil, fmt.Errorf("%w: action %q at stage %q is not in the grammar", ErrOptions, action, stage)
		}
		mx.at[stage] = b
	}
	if err := mx.prepareTLS(); err != nil {
		return nil, err
	}
	for _, addr := range options.Addrs {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			mx.closeListeners()
			return nil, fmt.Errorf("listen for SMTP: %w", err)
		}
		mx.listeners = append(mx.listeners, l)
	}
	return mx, nil
}

func (mx *MX) prepareTLS() error {
	switch {
	case mx.options.ImplicitTLS && mx.options.NoTLS:
		return fmt.Errorf("%w: implicit TLS and no TLS contradict each other", ErrOptions)
	case mx.options.NoTLS:
		return nil
	case mx.options.TLS != nil:
		mx.tls = mx.options.TLS
		return nil
	}
	mx.authority = mx.options.Authority
	if mx.authority == nil {
		authority, err := NewAuthority()
		if err != nil {
			return err
		}
		mx.authority = authority
	}
	certificate, err := mx.authority.Issue(Leaf{Names: []string{mx.options.Hostname, "127.0.0.1", "::1"}})
	if err != nil {
		return err
	}
	mx.tls = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	return nil
}

// Run serves the listeners until ctx ends, then answers 421 where a command is
// awaited, breaks off the rest, and returns nil when every session has ended.
func (mx *MX) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, mx.closeListeners)
	defer stop()

	var running sync.WaitGroup
	for _, l := range mx.listeners {
		running.Go(func() {
			for {
				conn, err := l.Accept()
				switch {
				case err == nil:
					running.Go(func() { mx.ServeConn(ctx, conn) })
				case ctx.Err() != nil:
					return
				case errors.Is(err, net.ErrClosed):
					cancel(fmt.Errorf("accept SMTP connection: %w", err))
					return
				default: // out of file descriptors, most likely: it passes
					wait(ctx, 50*time.Millisecond)
				}
			}
		})
	}
	<-ctx.Done()
	running.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

func (mx *MX) closeListeners() {
	for _, l := range mx.listeners {
		_ = l.Close()
	}
}

// T is what Start and ServeScripts need of a *testing.T.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start runs an MX until the test ends.
func Start(t T, options Options) *MX {
	t.Helper()
	if len(options.Addrs) == 0 {
		options.Addrs = []string{"127.0.0.1:0"}
	}
	mx, err := New(options)
	if err != nil {
		t.Fatalf("start MX: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mx.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run MX: %v", err)
		}
	})
	return mx
}

// Addr is the address of the first listener, host:port; empty without one.
func (mx *MX) Addr() string {
	if len(mx.listeners) == 0 {
		return ""
	}
	return mx.listeners[0].Addr().String()
}

// Addrs are the addresses of all listeners, in the order of Options.Addrs.
func (mx *MX) Addrs() []string {
	var addrs []string
	for _, l := range mx.listeners {
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// Port is the port of the first listener; 0 without one.
func (mx *MX) Port() int {
	if len(mx.listeners) == 0 {
		return 0
	}
	return mx.listeners[0].Addr().(*net.TCPAddr).Port
}

// CA holds the authority of the made certificate; nil when none was made.
func (mx *MX) CA() *x509.CertPool {
	if mx.authority == nil {
		return nil
	}
	return mx.authority.Pool()
}

// CAPEM is the certificate of that authority; nil when none was made.
func (mx *MX) CAPEM() []byte {
	if mx.authority == nil {
		return nil
	}
	return mx.authority.PEM()
}

// Deliveries returns what the MX stored so far; nil with a Store of one's own.
func (mx *MX) Deliveries() []Delivery {
	if mx.memory == nil {
		return nil
	}
	return mx.memory.Deliveries()
}

// offers reports that the EHLO reply has the keyword.
func (mx *MX) offers(keyword string) bool {
	return !slices.ContainsFunc(mx.options.Without, func(s string) bool { return strings.EqualFold(s, keyword) })
}

// adds reports that Options.With has the keyword.
func (mx *MX) adds(keyword string) bool {
	return slices.ContainsFunc(mx.options.With, func(s string) bool {
		word, _, _ := strings.Cut(s, " ")
		return strings.EqualFold(word, keyword)
	})
}

// wait returns after d, or false when ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
