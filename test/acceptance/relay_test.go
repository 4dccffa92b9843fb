package acceptance

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// The mail exchangers of the world; all are one recording sink.
const (
	hostedMX  = "127.0.0.2"  // of every hosted domain
	outsideMX = "127.0.0.66" // of every other domain there is
	literalMX = "127.0.0.67" // has no name
	deadMX    = "127.0.0.68" // nobody listens
)

// relay is one relay with all of its services, and the world around it.
type relay struct {
	*world.World
	sink     *smtptest.MX
	registry *store.Store
	// The listeners: SMTP of the world is the one of mode relay.
	submission, submissions string

	mu       sync.Mutex
	evidence map[mail.Ref]event.Refusal
	refused  map[string]int // refusals seen, by client address
	campus   int            // unregistered campus addresses given out
	messages int
}

// The two positions of every switch on which institutions differ. One is a
// campus that serves whoever is on its network; at the other only what is
// approved and authenticated may send.
var (
	open   = sync.OnceValue(func() *relay { return start(openPolicy, false) })
	strict = sync.OnceValue(func() *relay { return start(strictPolicy, true) })
)

const on, off, observe = config.Mode(authz.Enforce), config.Mode(authz.Off), config.Mode(authz.Observe)

var (
	openPolicy = config.Policy{
		HostedFromCampus: on, FCrDNS: on, SenderMustBeHosted: off, SenderMustExist: off, PersonalSender: off, FromField: observe,
		MustAuthenticate: off, AddressLock: off, NAT: on, Cloud: on, Bulk: off, SPF: off, SenderProof: off, HeloAmpersand: off, SenderWildcards: true, ReceivedHops: 3,
	}
	strictPolicy = config.Policy{
		HostedFromCampus: off, FCrDNS: off, SenderMustBeHosted: on, SenderMustExist: off, PersonalSender: off, FromField: on,
		MustAuthenticate: on, AddressLock: on, NAT: off, Cloud: off, Bulk: on, SPF: off, SenderProof: off, HeloAmpersand: on,
	}
)

// start starts a relay, with or without a listener for implicit TLS, and with
// changes of its configuration.
func start(policy config.Policy, implicitTLS bool, changes ...func(*config.Config)) *relay {
	t := alive
	port := porttest.Shared(t, hostedMX, outsideMX, literalMX, deadMX)
	var at []string
	for _, ip := range []string{hostedMX, outsideMX, literalMX} {
		at = append(at, net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	r := &relay{
		World: &world.World{T: t, DNS: dnstest.Start(t, zones())}, evidence: map[mail.Ref]event.Refusal{}, refused: map[string]int{},
		sink: smtptest.Start(t, smtptest.Options{Addrs: at, Hostname: "mx.outside.test", Transcripts: true}),
	}
	r.DNS.Fail("7.1.1.127.in-addr.arpa", dnstest.ServFail)
	listeners := porttest.Addresses(t, 3)
	r.SMTP, r.submission, r.submissions = listeners[0], listeners[1], listeners[2]
	r.Config = r.configuration(t, port)
	r.Config.Policy = policy
	if implicitTLS { // and nobody is stopped by what time brings
		r.Config.Lifecycle.Reports, r.Config.Lifecycle.Anomaly = 0, off
		r.Config.Listeners = append(r.Config.Listeners, config.Listener{Name: "submissions", Address: r.submissions, Mode: config.ModeSubmissions, TLSMinimum: "1.3"})
	}
	for _, change := range changes {
		change(r.Config)
	}
	if err := r.Config.Validate(); err != nil {
		t.Fatal(err)
	}
	world.InProcess(t, r.World)
	r.followRefusals(t)
	var err error
	if r.registry, err = store.Open(t.Context(), r.Bus, r.Config.FileEntries()); err != nil {
		t.Fatal(err)
	}
	r.fill(t)
	r.await("the DNS to be asked about devices", func(*session) bool {
		s, err := r.registry.Load(t.Context())
		return err == nil && len(s.Entries().Resolutions) >= 10 || policy.FCrDNS == off
	})
	return r
}

func (r *relay) configuration(t testing.TB, mxPort int) *config.Config {
	c := config.Defaults()
	c.Relay = config.Relay{Hostname: "relay.campus.test", Data: filepath.Join(t.TempDir(), "data"), HelpURL: "https://relay.campus.test", Postmaster: "desk@campus.test"}
	c.Listeners = []config.Listener{
		{Name: "devices", Address: r.SMTP, Mode: config.ModeRelay},
		{Name: "submission", Address: r.submission, Mode: config.ModeSubmission},
	}
	c.Listeners[0].TLSFloorBySource = []config.TLSFloor{{From: netip.MustParsePrefix("127.1.40.0/24"), Minimum: "1.0", Ciphers: config.CiphersLegacy}}
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	c.Networks = config.Networks{
		Campus: prefix("127.1.0.0/16"), Workstations: prefix("127.1.20.0/24"), DHCP: prefix("127.1.21.0/24"), Deny: prefix("127.1.22.0/24"),
		Residential: prefix("127.3.0.0/16"), NAT: prefix("127.1.30.0/24"), Cloud: prefix("127.4.0.0/16"),
	}
	for _, name := range hostedDomains() {
		c.Domains.Hosted = append(c.Domains.Hosted, config.Hosted{
			Name: name, Route: "smtp://" + net.JoinHostPort(hostedMX, strconv.Itoa(mxPort)), Internal: name == "campus.test",
		})
	}
	c.Devices = devices()
	c.DNS.Resolver = r.DNS.Addr()
	c.Delivery.MXPort = mxPort
	c.Ledger.TokenHeader = "X-Token"
	c.Lifecycle.NoticeGroup = noticeGroup
	c.Metrics.Address, c.Console.Address = "", ""
	return c
}

// fill makes the entries that only commands can make. When the last of them
// authenticates, ingress knows all.
func (r *relay) fill(t testing.TB) {
	for _, item := range commandEntries() {
		r.put(t, item)
	}
	r.await("the registry to be filled", func(s *session) bool { return s.login("last", secretOf("last")).code == 235 })
}

// put makes or changes an entry of the registry.
func (r *relay) put(t testing.TB, item registry.Item) {
	t.Helper()
	item.Audit().Stamp(registry.Change{By: "operator", Reason: "acceptance", Ticket: "T-1", At: time.Now().UTC()})
	if err := r.registry.Put(t.Context(), item); err != nil {
		t.Fatal(err)
	}
}

// remove ends an entry of the registry.
func (r *relay) remove(t testing.TB, item registry.Item) {
	t.Helper()
	if err := r.registry.Remove(context.WithoutCancel(t.Context()), item, registry.Change{By: "operator", Reason: "acceptance", At: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
}

// followRefusals gathers what becomes known of refusals.
func (r *relay) followRefusals(t testing.TB) {
	s, err := r.Bus.NC.Subscribe("refused.>", func(m *nats.Msg) {
		var e event.Refusal
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.evidence[e.Ref] = e
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Drain() })
}

// stranger is an address of the campus that is not registered, and that no
// other test has.
func (r *relay) stranger() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.campus++
	return "127.1." + strconv.Itoa(128+r.campus/250) + "." + strconv.Itoa(1+r.campus%250)
}

// token is a Subject that no other message has.
func (r *relay) token() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages++
	return "message-" + strconv.Itoa(r.messages)
}

// patience is how long a test waits for what should have come long ago.
const patience = 30 * time.Second

// arrived waits for the message with that token.
func (r *relay) arrived(t testing.TB, token string) smtptest.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found []smtptest.Delivery
	if err := r.sink.WaitFor(ctx, func(smtptest.Counts) bool {
		found = r.deliveries(token)
		return len(found) > 0
	}); err != nil {
		t.Fatalf("%s never arrived: %v", token, err)
	}
	return found[0]
}

// deliveries are the copies of a message that reached any mail exchanger.
func (r *relay) deliveries(token string) (found []smtptest.Delivery) {
	for _, d := range r.sink.Deliveries() {
		if d.Field("X-Token") == token {
			found = append(found, d)
		}
	}
	return found
}

// exchanger is the address of the mail exchanger that took a message.
func exchanger(d smtptest.Delivery) string {
	host, _, _ := strings.Cut(d.LocalAddr, ":")
	return host
}
