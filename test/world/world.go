// Package world is a small Internet on loopback for scenarios that cross all
// services: a DNS server, mail exchangers on 127.0.0.x, a device here and
// there, and a relay between them, run in one process or as separate
// processes over a separate nats-server. A scenario is written once and does
// not know which.
package world

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtptest"
)

// Addresses of the world.
const (
	CampusMX  = "127.0.0.2" // mx.campus.test, where the senders' mailboxes are
	DeadMX    = "127.0.0.3" // mx1.example.test: nobody listens
	BackupMX  = "127.0.0.4" // mx2.example.test
	PlainMX   = "127.0.0.5" // mx.secure.test: offers no TLS
	Unknown   = "127.1.0.1" // a campus address that is not registered
	Printer   = "127.1.0.2" // prn.campus.test
	Alarm     = "127.1.0.3" // alarm.campus.test, class alert
	Outsider  = "127.2.0.1" // not of the campus
	sender    = "prn@campus.test"
	patience  = 60 * time.Second
	zonesText = `
$ORIGIN test.
@                IN SOA ns hostmaster 1 3600 600 86400 1
campus           IN MX 10 mx.campus
mx.campus        IN A 127.0.0.2
example          IN MX 10 mx1.example
example          IN MX 20 mx2.example
mx1.example      IN A 127.0.0.3
mx2.example      IN A 127.0.0.4
null             IN MX 0 .
secure           IN MX 10 mx.secure
mx.secure        IN A 127.0.0.5
`
)

// World is the surroundings of one relay.
type World struct {
	T   testing.TB
	DNS *dnstest.Server
	// Campus, Backup and Plain are the mail exchangers that answer.
	Campus, Backup, Plain *smtptest.MX
	// Config is that of the relay.
	Config *config.Config
	// SMTP is the relay's listener of mode relay.
	SMTP string
	// Bus is a connection to the relay's bus.
	Bus *queue.Bus
}

// Driver starts the relay of a world and sets its Bus.
type Driver func(t testing.TB, w *World)

// New makes a world with its relay. change may alter the configuration.
func New(t testing.TB, drive Driver, change func(*config.Config)) *World {
	t.Helper()
	port := porttest.Shared(t, CampusMX, BackupMX, PlainMX)
	at := func(ip string) []string { return []string{net.JoinHostPort(ip, strconv.Itoa(port))} }
	w := &World{T: t, DNS: dnstest.Start(t, zonesText)}
	w.Campus = smtptest.Start(t, smtptest.Options{Addrs: at(CampusMX), Hostname: "mx.campus.test", Transcripts: true})
	w.Backup = smtptest.Start(t, smtptest.Options{Addrs: at(BackupMX), Hostname: "mx2.example.test", Transcripts: true})
	w.Plain = smtptest.Start(t, smtptest.Options{Addrs: at(PlainMX), Hostname: "mx.secure.test", NoTLS: true, Transcripts: true})
	w.SMTP = porttest.Address(t)
	w.Config = w.configuration(t, port)
	if change != nil {
		change(w.Config)
	}
	if err := w.Config.Validate(); err != nil {
		t.Fatal(err)
	}
	drive(t, w)
	return w
}

func (w *World) configuration(t testing.TB, mxPort int) *config.Config {
	c := config.Defaults()
	c.Relay = config.Relay{Hostname: "relay.campus.test", Data: filepath.Join(t.TempDir(), "data"), HelpURL: "https://relay.campus.test"}
	c.Listeners = []config.Listener{{Name: "devices", Address: w.SMTP, Mode: config.ModeRelay}}
	c.Networks.Campus = []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16")}
	c.Domains.Hosted = []config.Hosted{{Name: "campus.test"}}
	c.Devices = []registry.Device{
		{Name: "prn.campus.test", Owner: "chem", Addresses: registry.MustAddresses(Printer)},
		{Name: "alarm.campus.test", Owner: "ops", Class: mail.ClassAlert, Addresses: registry.MustAddresses(Alarm)},
	}
	c.DNS.Resolver = w.DNS.Addr()
	second := config.Duration(time.Second)
	c.Delivery.MXPort = mxPort
	c.Delivery.Retry = []config.Duration{second, second, second}
	c.Delivery.Lifetime.Alert = 3 * second
	c.Delivery.RequireTLS = []config.RequireTLS{{Domain: "secure.test", Level: config.TLSEncrypt}}
	c.Metrics.Address, c.Console.Address = "", ""
	return c
}

// Settled waits until no recipient of a message is queued, and returns what
// the books say.
func (w *World) Settled(id mail.QueueID) *books.Trace {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last *books.Trace
	for {
		trace, err := books.Client(w.Bus).Trace(ctx, string(id))
		if err == nil && len(trace.Messages) == 1 && trace.Messages[0].States[books.StateQueued] == 0 && len(trace.Recipients) > 0 {
			return trace
		}
		last = trace
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.T.Fatalf("%s is not settled: %v %+v", id, err, last)
		}
	}
}

// Balances checks the books.
func (w *World) Balances() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := books.Client(w.Bus).Balance(ctx, books.BalanceQuestion{})
	if err != nil {
		w.T.Fatal(err)
	}
	if !b.Balances() || b.Conflicts > 0 || b.Unreadable > 0 {
		w.T.Errorf("books do not balance: %+v", b)
	}
}
