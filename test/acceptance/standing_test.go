package acceptance

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// careful is a third relay, which looks at who the sender is: it asks the server of
// his domain, the DNS of his domain, and his address. What cannot be delivered comes
// back soon.
var careful = sync.OnceValue(func() *relay {
	return start(carefulPolicy, false, func(c *config.Config) {
		c.Lifecycle.Probe = true
		c.Delivery.Retry = []config.Duration{config.Duration(time.Second)}
		c.Delivery.Lifetime.Default = config.Duration(3 * time.Second)
		c.Devices = append(c.Devices, registry.Device{
			Name: clinic, Owner: "clinic", Addresses: at(clinicAddress), Exempt: &registry.Exemption{Reason: "cannot authenticate", By: "postmaster"},
			State: registry.StateActive, Scope: registry.ScopeAnywhere, Class: mail.ClassDefault, PHI: true,
		})
	})
})

var carefulPolicy = config.Policy{
	HostedFromCampus: on, FCrDNS: off, SenderMustBeHosted: on, SenderMustExist: on, PersonalSender: off, FromField: observe,
	MustAuthenticate: on, AddressLock: off, NAT: on, Cloud: on, Bulk: off, SPF: on, SPFInclude: "_spf.relay.test", HeloAmpersand: off,
}

// The device that sends health data.
const (
	clinic        = "clinic.campus.test"
	clinicAddress = "127.1.9.1"
	byClinic      = "<clinic@campus.test>"
)

// The server of a sender's domain is asked whether there is such a mailbox: its no
// refuses, its doubt delays.
func TestP27_SenderCanBeReached(t *testing.T) {
	careful().play(t,
		attempt{name: "reached", from: printer, want: "250"},
		attempt{name: "unknown", from: printer, mail: "<550-5.1.1@campus.test>", want: "550 5.1.8 Sender has no mailbox: 550-5.1.1@campus.test."},
		attempt{name: "unknown, to a hosted domain", mail: "<550-5.1.1@campus.test>", rcpt: inside, want: "550 5.1.8 "},
		attempt{name: "not known now", from: printer, mail: "<450@campus.test>", want: "451 4.4.3 Sender cannot be checked now"},
		attempt{name: "full is not unknown", from: printer, mail: "<552-5.2.2@campus.test>", want: "451 4.4.3 "},
		attempt{name: "reports have no sender", from: printer, mail: "<>", header: "From: prn@campus.test", want: "250"},
	)
	open().play(t, attempt{name: "where nobody asks", from: printer, mail: "<550-5.1.1@campus.test>", want: "250"})
}

func TestW23_UnknownMailbox(t *testing.T) {
	careful().play(t,
		attempt{name: "unknown mailbox", from: printer, mail: "<550-5.1.1@journal03.test>", want: "550 5.1.8 "},
		attempt{name: "other domain", from: printer, mail: "<someone@inet.test>", want: "550 5.7.1 Sender domain not ours: inet.test."},
		attempt{name: "mailbox of a hosted domain", from: printer, mail: "<x@journal03.test>", want: "250"},
	)
}

// reviewed registers a device and waits for what is found out about it.
func (r *relay) reviewed(t *testing.T, d *registry.Device) []registry.Finding {
	t.Helper()
	r.put(t, d)
	var found []registry.Finding
	timetest.Await(t, "a review of "+d.Name, func() bool {
		v, ok := r.load(t).Review(d.Name)
		if ok && v.At.After(d.At) {
			found = v.Findings
			return true
		}
		return false
	})
	return found
}

func (r *relay) load(t *testing.T) *registry.Snapshot {
	t.Helper()
	s, err := r.registry.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *relay) says(t *testing.T, records string) {
	t.Helper()
	if err := r.DNS.Set(records); err != nil {
		t.Fatal(err)
	}
}

// about is what a check found about something.
func about(found []registry.Finding, check, what string) registry.Finding {
	i := slices.IndexFunc(found, func(f registry.Finding) bool { return f.Check == check && f.About == what })
	if i < 0 {
		return registry.Finding{Text: "nothing"}
	}
	return found[i]
}

const relaySPF = `_spf.relay.test. 0 IN TXT "v=spf1 ip4:127.0.0.0/8 -all"
`

// A device whose sender domain does not include the relay in its SPF policy is not
// activated, though approved, and its owner sees what to add. When the domain has it
// and the registration is looked at again, the device may send.
func TestS31_SPFBeforeActivation(t *testing.T) {
	r := careful()
	r.says(t, relaySPF+`journal05.test. 0 IN TXT "v=spf1 include:_spf.relay.test -all"
journal06.test. 0 IN TXT "v=spf1 ip4:192.0.2.0/24 -all"
`)
	good := newcomer("spf-good.campus.test", "127.1.9.5", registry.StateApproved)
	bad := newcomer("spf-bad.campus.test", "127.1.9.6", registry.StateApproved)
	good.Senders, bad.Senders = []string{"x@journal05.test"}, []string{"x@journal06.test"}
	if f := about(r.reviewed(t, good), "spf", "journal05.test"); !f.OK {
		t.Errorf("%+v", f)
	}
	f := about(r.reviewed(t, bad), "spf", "journal06.test")
	if f.OK || !strings.Contains(f.Text, "add include:_spf.relay.test") {
		t.Errorf("%+v", f)
	}
	try := func(d *registry.Device) attempt {
		return attempt{name: d.Name, from: d.Addresses[0].Range.Addr().String(), mail: "<" + d.Senders[0] + ">"}
	}
	allowed := func(d *registry.Device) bool {
		a := try(d)
		a.complete(r)
		return strings.HasPrefix(r.try(t, a, r.token()), "250")
	}
	timetest.Await(t, "the good one to be active", func() bool { return allowed(good) })
	refused := try(bad)
	refused.want = "550 5.7.1 "
	r.play(t, refused)

	r.says(t, `journal06.test. 0 IN TXT "v=spf1 ip4:192.0.2.0/24 include:_spf.relay.test -all"
`)
	// What the DNS said is remembered for seconds, so that one look may not do.
	timetest.Await(t, "the other one to be active", func() bool {
		s := r.load(t)
		current, _ := s.Device(bad.Name)
		if v, ok := s.Review(bad.Name); ok && current.State == registry.StateApproved && v.At.After(current.At) {
			r.edit(t, bad.Name, func(*registry.Device) {})
		}
		return allowed(bad)
	})
}

// edit changes a device as it is now, which the relay may change at the same time.
func (r *relay) edit(t *testing.T, name string, change func(*registry.Device)) {
	t.Helper()
	timetest.Await(t, "the change of "+name, func() bool {
		current, _ := r.load(t).Device(name)
		d, err := registry.Clone(current)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		d.Stamp(registry.Change{By: "operator", Reason: "acceptance", At: time.Now().UTC()})
		err = r.registry.Put(t.Context(), d)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// Whether mail of a registered From domain passes DMARC is found out at
// registration: by the signature, by SPF, or not.
func TestW38_AlignmentIsShown(t *testing.T) {
	r := careful()
	r.says(t, relaySPF+`_dmarc.journal07.test. 0 IN TXT "v=DMARC1; p=reject"
_dmarc.journal08.test. 0 IN TXT "v=DMARC1; p=reject"
journal08.test. 0 IN TXT "v=spf1 include:_spf.relay.test -all"
_dmarc.journal09.test. 0 IN TXT "v=DMARC1; p=none"
`)
	d := newcomer("dmarc.campus.test", "127.1.9.7", registry.StateRequested)
	d.Senders, d.HeaderSenders = []string{"x@campus.test", "x@journal08.test"}, []string{"x@journal07.test", "x@journal09.test"}
	found := r.reviewed(t, d)
	for domain, want := range map[string]struct {
		ok   bool
		text string
	}{
		"campus.test":    {true, "the signature of relay.campus.test is aligned"},
		"journal07.test": {false, "receivers will reject it: neither SPF nor the signature of relay.campus.test is aligned"},
		"journal08.test": {true, "SPF is aligned"},
		"journal09.test": {true, "the domain asks for nothing"},
	} {
		if f := about(found, "dmarc", domain); f.OK != want.ok || !strings.Contains(f.Text, want.text) {
			t.Errorf("%s: %+v", domain, f)
		}
	}
}

// A sender domain that authorises nobody is the fault, and the finding names the
// remedy.
func TestX16_SenderDomainNotAuthorised(t *testing.T) {
	r := careful()
	r.says(t, relaySPF+`journal10.test. 0 IN TXT "v=spf1 -all"
_dmarc.journal10.test. 0 IN TXT "v=DMARC1; p=quarantine"
`)
	d := newcomer("unauthorised.campus.test", "127.1.9.8", registry.StateRequested)
	d.Senders = []string{"x@journal10.test"}
	found := r.reviewed(t, d)
	if f := about(found, "spf", "journal10.test"); f.OK || f.Doubt || !strings.Contains(f.Text, "add include:_spf.relay.test") {
		t.Errorf("SPF: %+v", f)
	}
	if f := about(found, "dmarc", "journal10.test"); f.OK || f.Doubt || !strings.Contains(f.Text, "receivers will quarantine it") {
		t.Errorf("DMARC: %+v", f)
	}
}

// Who approves sees whether a mail server answers at the address. It is advice: a
// printer with internet fax answers, too, and the device is activated.
func TestW3_MailServerAnswers(t *testing.T) {
	r := careful()
	server := newcomer("server.campus.test", literalMX, registry.StateRequested)
	found := r.reviewed(t, server)
	if f := about(found, "mail-server", literalMX); f.OK || !strings.Contains(f.Text, "a mail server answers") {
		t.Errorf("%+v", f)
	}
	printer := newcomer("no-server.campus.test", "127.1.9.9", registry.StateRequested)
	if f := about(r.reviewed(t, printer), "mail-server", "127.1.9.9"); !f.OK {
		t.Errorf("%+v", f)
	}
	r.edit(t, server.Name, func(d *registry.Device) { d.State = registry.StateApproved })
	timetest.Await(t, "it to be active", func() bool {
		d, ok := r.load(t).Device(server.Name)
		return ok && d.State == registry.StateActive
	})
	current, _ := r.load(t).Device(server.Name)
	r.forget(t, current)
}

// reports are those that came back to a sender.
func (r *relay) reports(sender string) (found []smtptest.Delivery) {
	for _, d := range r.sink.Deliveries() {
		if d.ReversePath.IsNull() && slices.Contains(recipients(d), sender) {
			found = append(found, d)
		}
	}
	return found
}

// submitted sends a message that is accepted, and gives its QueueID.
func (r *relay) submitted(t *testing.T, a attempt) (id, token string) {
	t.Helper()
	a.complete(r)
	token = r.token()
	got := r.try(t, a, token)
	id, queued := strings.CutPrefix(got, "250 2.0.0 queued as ")
	if !queued {
		t.Fatal(got)
	}
	return id, token
}

// gone reports that a message can no longer be read.
func (r *relay) gone(t *testing.T, id string) bool {
	t.Helper()
	ref := r.settled(t, id).Records[0].Record.Message.Content
	_, content, err := r.Bus.Content(t.Context(), mail.QueueID(id), ref)
	if err == nil {
		content.Close()
		return false
	}
	if !errors.Is(err, queue.ErrContentGone) {
		t.Fatal(err)
	}
	return true
}

// Health data for outside goes over TLS with a certificate that verifies, or not at
// all: the mail exchangers outside have none that does. Its sender learns that
// encryption was missing.
func TestW13_HealthDataNeverInClear(t *testing.T) {
	r := careful()
	id, token := r.submitted(t, attempt{from: clinicAddress, mail: byClinic})
	states := r.settled(t, id).Messages[0].States
	if states["expired"] != 1 || len(r.deliveries(token)) > 0 {
		t.Errorf("%v, %d copies", states, len(r.deliveries(token)))
	}
	for _, one := range r.sink.Transcripts() {
		if text := one.String(); strings.Contains(text, "C: MAIL FROM:"+byClinic) {
			t.Errorf("it was begun:\n%s", text)
		}
	}
	timetest.Await(t, "the report", func() bool { return len(r.reports(byClinic)) > 0 })
	if body := string(r.reports(byClinic)[0].Content); !strings.Contains(body, "Status: 5.7.10") {
		t.Errorf("the report says\n%s", body)
	}
	timetest.Await(t, "its content to be erased", func() bool { return r.gone(t, id) })
	// The same of another device leaves by the way there is.
	r.play(t, attempt{name: "of another device", from: printer, want: "250"})
}

// What is settled is erased at once; other mail is kept for its time.
func TestS13_HealthDataIsErasedAtOnce(t *testing.T) {
	r := careful()
	id, token := r.submitted(t, attempt{from: clinicAddress, mail: byClinic, rcpt: inside})
	other, _ := r.submitted(t, attempt{from: printer, rcpt: inside})
	if d := r.arrived(t, token); exchanger(d) != hostedMX {
		t.Errorf("it arrived at %s", exchanger(d))
	}
	timetest.Await(t, "its content to be erased", func() bool { return r.gone(t, id) })
	if r.gone(t, other) {
		t.Error("other mail is gone, too")
	}
}

// A domain that included the relay and does so no longer: the device goes on, and
// its contacts hear what is missing.
func TestS31_OwnersHearWhenSPFFails(t *testing.T) {
	r := careful()
	const domain, keeper = "journal11.test", "lapsed-keeper@campus.test"
	r.says(t, relaySPF+domain+`. 0 IN TXT "v=spf1 include:_spf.relay.test -all"
`)
	d := newcomer("lapsed.campus.test", "127.1.9.10", registry.StateActive)
	d.Senders, d.Contacts = []string{"x@" + domain}, []string{keeper, "x@campus.test"}
	if f := about(r.reviewed(t, d), "spf", domain); !f.OK {
		t.Fatalf("%+v", f)
	}
	c := r.clock(t, config.Lifecycle{})
	c.round(0)
	if got := r.notices(keeper, "problem"); len(got) > 0 {
		t.Errorf("told while all is well: %s", got[0].Content)
	}
	r.says(t, domain+`. 0 IN TXT "v=spf1 -all"
`)
	timetest.Await(t, "the next look to find it", func() bool {
		r.edit(t, d.Name, func(*registry.Device) {})
		v, ok := r.load(t).Review(d.Name)
		return ok && !about(v.Findings, "spf", domain).OK
	})
	c.round(time.Minute)
	if body := string(r.told(t, keeper, d.Name+": mail from it has a problem").Content); !strings.Contains(body, domain+": the SPF policy does not include _spf.relay.test; add include:_spf.relay.test") {
		t.Errorf("%s", body)
	}
	if is := r.device(t, d.Name); is.State != registry.StateActive {
		t.Errorf("%+v", is)
	}
	c.round(24 * time.Hour)
	if got := r.notices(keeper, "problem"); len(got) != 1 {
		t.Errorf("told %d times", len(got))
	}
}
