package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

// patience is how long a test waits before it calls a server hung.
const patience = 20 * time.Second

// rig is ingress on loopback ports with a bus of its own. 127.0.0.1 is on
// campus, campus.test is hosted; 127.0.0.2 is the device prn.campus.test, which
// may send anywhere.
type rig struct {
	t     testing.TB
	bus   *queue.Bus
	store *store.Store
	cfg   *config.Config
	stop  context.CancelFunc
	group *service.Group
	ended chan error

	metrics *prometheus.Registry
}

const (
	campus = "127.0.0.1"
	device = "127.0.0.2"
)

func start(t testing.TB, adjust ...func(*config.Config)) *rig {
	t.Helper()
	return startOn(t, queuetest.Start(t), adjust...)
}

func startOn(t testing.TB, bus *queue.Bus, adjust ...func(*config.Config)) *rig {
	t.Helper()
	cfg := config.Defaults()
	cfg.Relay = config.Relay{Hostname: "relay.campus.test", Data: t.TempDir(), HelpURL: "https://relay.campus.test"}
	cfg.Listeners = []config.Listener{
		{Name: "relay", Mode: config.ModeRelay}, {Name: "submission", Mode: config.ModeSubmission}, {Name: "submissions", Mode: config.ModeSubmissions},
	}
	for i, address := range porttest.Addresses(t, len(cfg.Listeners)) {
		cfg.Listeners[i].Address = address
	}
	cfg.Networks.Campus = []netip.Prefix{netip.MustParsePrefix(campus + "/32")}
	cfg.Domains.Hosted = []config.Hosted{{Name: "campus.test"}}
	for _, a := range adjust {
		a(cfg)
	}
	r := &rig{t: t, bus: bus, cfg: cfg, ended: make(chan error, 1), metrics: prometheus.NewRegistry()}
	var err error
	if r.store, err = store.Open(t.Context(), bus, registry.Entries{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, known := r.store.Snapshot().Device("prn.campus.test"); !known {
		r.registerDevice()
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	group := service.NewGroup(Service)
	r.group = group
	go func() {
		r.ended <- group.Run(ctx, service.Env{Config: cfg, Bus: bus, Log: queuetest.Log(t), Metrics: r.metrics})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-group.Ready():
	case err := <-r.ended:
		r.ended <- err
		t.Fatalf("ended: %v", err)
	}
	return r
}

// counted is the sum of a counter over its labels.
func (r *rig) counted(name string) (sum float64) {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
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

// by is who registers things here.
var by = registry.Entry{By: "tester"}

func (r *rig) registerDevice() {
	r.t.Helper()
	d := &registry.Device{
		Name: "prn.campus.test", Owner: "chem", Addresses: registry.MustAddresses(device + "/32"),
		Scope: registry.ScopeAnywhere, Class: mail.ClassAlert, State: registry.StateActive, Entry: by,
	}
	if err := r.store.Put(r.t.Context(), d); err != nil {
		r.t.Fatal(err)
	}
	c := &registry.Credential{Name: "prn", Device: d.Name, Secrets: []registry.Secret{{Hash: registry.HashSecret("secret")}}, Entry: by}
	if err := r.store.Put(r.t.Context(), c); err != nil {
		r.t.Fatal(err)
	}
}

// suspend takes the device out of service and returns when ingress knows.
func (r *rig) suspend() {
	r.t.Helper()
	snapshot, err := r.store.Load(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	d, _ := snapshot.Device("prn.campus.test")
	changed := *d
	changed.State = registry.StateSuspended
	if err := r.store.Put(r.t.Context(), &changed); err != nil {
		r.t.Fatal(err)
	}
	timetest.Await(r.t, "ingress to know it", func() bool { // each time in a session of its own: one ends that does nothing
		c := r.dial(device)
		defer c.conn.Close()
		c.say("EHLO probe", "250")
		return strings.HasPrefix(c.ask("MAIL FROM:<prn@campus.test>"), "550")
	})
}

// client is a raw SMTP client.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// dial connects to the relay listener from a loopback address.
func (r *rig) dial(from string) *client {
	r.t.Helper()
	c := r.connect(from, r.cfg.Listeners[0].Address)
	c.expect("220 relay.campus.test")
	return c
}

func (r *rig) connect(from, to string) *client {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(r.t.Context(), "tcp", to)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &client{r.t, conn, bufio.NewReader(conn)}
}

// begin dials and goes as far as the recipients, which must be accepted.
func (r *rig) begin(from string, to ...string) *client {
	r.t.Helper()
	c := r.dial(from)
	c.say("EHLO host.campus.test", "250")
	c.envelope(to...)
	return c
}

func (c *client) envelope(to ...string) {
	c.t.Helper()
	c.say("MAIL FROM:<prn@campus.test>", "250")
	for _, rcpt := range to {
		c.say("RCPT TO:<"+rcpt+">", "250")
	}
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply, its lines joined by "\n".
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("read reply: %v after %q", err, lines)
		}
		lines = append(lines, strings.TrimRight(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

func (c *client) ask(command string) string {
	c.t.Helper()
	c.write(command + "\r\n")
	return c.reply()
}

func (c *client) expect(prefix string) string {
	c.t.Helper()
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %q, want %q", got, prefix)
	}
	return got
}

func (c *client) say(command, prefix string) string {
	c.t.Helper()
	c.write(command + "\r\n")
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%s: got %q, want %q", command, got, prefix)
	}
	return got
}

// data sends a content that ends with CRLF and returns the final reply.
func (c *client) data(content string) string {
	c.t.Helper()
	c.say("DATA", "354")
	c.write(stuffed(content) + ".\r\n")
	return c.reply()
}

// stuffed adds the dots of transparency (RFC 5321 §4.5.2).
func stuffed(content string) string {
	content = strings.ReplaceAll(content, "\r\n.", "\r\n..")
	if strings.HasPrefix(content, ".") {
		content = "." + content
	}
	return content
}

// startTLS goes on under TLS, with an EHLO.
func (c *client) startTLS() {
	c.t.Helper()
	c.say("STARTTLS", "220")
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn, c.in = secure, bufio.NewReader(secure)
	c.say("EHLO host.campus.test", "250")
}

func plainAuth(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

var queuedAs = regexp.MustCompile(`^250 2\.0\.0 queued as ([0-9A-HJKMNP-TV-Z]{16})$`)

// queued is the id in a final reply that must be a success.
func (c *client) queued(reply string) mail.QueueID {
	c.t.Helper()
	m := queuedAs.FindStringSubmatch(reply)
	if m == nil {
		c.t.Fatalf("got %q, want 250 2.0.0 queued as ID", reply)
	}
	return mail.QueueID(m[1])
}

// send is one message from an address, which must be accepted.
func (r *rig) send(from, content string, to ...string) mail.QueueID {
	r.t.Helper()
	c := r.begin(from, to...)
	return c.queued(c.data(content))
}

// stored is what MAIL has of every message, by id, with its content.
func (r *rig) stored() map[mail.QueueID]stored {
	r.t.Helper()
	out := map[mail.QueueID]stored{}
	for n := range queue.Shards {
		r.each(queue.MailStream(n), func(m *jetstream.RawStreamMsg) {
			if queue.IsCanary(m.Subject) {
				return
			}
			a, reader, err := r.bus.Content(r.t.Context(), mail.QueueID(m.Header.Get(jetstream.MsgIDHeader)), event.ContentRef{Stream: queue.MailStream(n), Seq: m.Sequence})
			if err != nil {
				r.t.Fatal(err)
			}
			defer reader.Close()
			content, err := io.ReadAll(reader)
			if err != nil {
				r.t.Fatal(err)
			}
			out[a.QueueID] = stored{a, string(content), m.Subject}
		})
	}
	return out
}

type stored struct {
	*event.Accepted
	content string
	subject string
}

// only is the single message in MAIL.
func (r *rig) only() stored {
	r.t.Helper()
	all := r.stored()
	if len(all) != 1 {
		r.t.Fatalf("%d messages in MAIL, want 1", len(all))
	}
	for _, m := range all {
		return m
	}
	panic("unreachable")
}

// refusals is what REFUSED has after ingress ended, by reference.
func (r *rig) refusals() map[mail.Ref]*event.Refusal {
	r.t.Helper()
	r.stop()
	err := <-r.ended
	r.ended <- err
	out := map[mail.Ref]*event.Refusal{}
	r.each(queue.StreamRefused, func(m *jetstream.RawStreamMsg) {
		e, err := event.Decode[event.Refusal](m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		out[e.Ref] = e
	})
	return out
}

// each visits every message of a stream.
func (r *rig) each(stream string, visit func(*jetstream.RawStreamMsg)) {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := max(1, s.CachedInfo().State.FirstSeq); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		visit(m)
	}
}

// message is a content with the fields that ingress would add.
const message = "From: <prn@campus.test>\r\nDate: Mon, 2 Jan 2006 15:04:05 -0700\r\nMessage-ID: <1@prn.campus.test>\r\nSubject: scan\r\n\r\nPage one.\r\n.dot\r\n"
