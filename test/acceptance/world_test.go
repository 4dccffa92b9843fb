package acceptance

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// Addresses of clients. DEV, CAMPUS and EXT of the requirements are printer,
// relay.stranger and outsider.
const (
	printer     = "127.1.1.1"  // prn.campus.test
	remembered  = "127.1.1.60" // remembered.campus.test
	outsider    = "127.2.0.1"
	workstation = "127.1.20.9"
	pool        = "127.1.21.9" // DHCP
	home        = "127.3.0.9"
	nat         = "127.1.30.9"
	cloud       = "127.4.0.9"
)

// hostedDomains are 44, of which 14 lie outside the institution's own.
func hostedDomains() []string {
	names := []string{"campus.test", "isc.campus.test", "net.isc.campus.test", "chem.campus.test"}
	for i := 5; i <= 30; i++ {
		names = append(names, fmt.Sprintf("dept%02d.campus.test", i))
	}
	for i := 1; i <= 14; i++ {
		names = append(names, fmt.Sprintf("journal%02d.test", i))
	}
	return names
}

// devices are the registrations of both relays. Unless said otherwise the DNS
// knows each by its name, and it need not authenticate.
func devices() []registry.Device {
	spare := &registry.Exemption{Reason: "cannot authenticate", By: "postmaster"}
	ended := &registry.Exemption{Reason: "until the new firmware", By: "postmaster", Until: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	list := []registry.Device{
		{Name: "prn.campus.test", Addresses: at(printer), Exempt: spare},
		{Name: "app.campus.test", Addresses: at("127.1.1.2"), Exempt: spare, Senders: []string{"app@campus.test"}, HeaderSenders: []string{"news@campus.test"}},
		{Name: "noptr.campus.test", Addresses: at("127.1.1.3"), Exempt: spare},
		{Name: "otherptr.campus.test", Addresses: at("127.1.1.4"), Exempt: spare},
		{Name: "noaddress.campus.test", Addresses: at("127.1.1.5"), Exempt: spare},
		{Name: "manynames.campus.test", Addresses: at("127.1.1.6"), Exempt: spare},
		{Name: "doubt.campus.test", Addresses: at("127.1.1.7"), Exempt: spare},
		{Name: "remembered.campus.test", Addresses: at(remembered), Exempt: spare},
		{Name: "inside.campus.test", Addresses: at("127.1.1.8"), Exempt: spare, Scope: registry.ScopeHosted},
		{Name: "plain.campus.test", Addresses: at("127.1.1.9")},
		{Name: "both.campus.test", Addresses: at("127.1.1.10"), Proof: registry.ProofBoth},
		{Name: "requested.campus.test", Addresses: at("127.1.1.11"), Exempt: spare, State: registry.StateRequested},
		{Name: "suspended.campus.test", Addresses: at("127.1.1.12"), Exempt: spare, State: registry.StateSuspended},
		{Name: "retired.campus.test", Addresses: at("127.1.1.13"), Exempt: spare, State: registry.StateRetired},
		{Name: "ended.campus.test", Addresses: at("127.1.1.14"), Exempt: ended},
		{Name: "vendor.campus.test", Addresses: at("127.1.1.15"), Exempt: spare, Owner: "vendor"},
		{Name: "news.campus.test", Addresses: at("127.1.1.16"), Exempt: spare, Traffic: registry.TrafficNewsletter},
		{Name: "calls.campus.test", Addresses: at("127.1.1.17"), Exempt: spare, Traffic: registry.TrafficResearch},
		{Name: "survey.campus.test", Addresses: at("127.1.1.18"), Exempt: spare, Traffic: registry.TrafficSurvey},
		{Name: "scans.campus.test", Addresses: at("127.1.1.19"), Exempt: spare, Traffic: registry.TrafficScans},
		{Name: "small.campus.test", Addresses: at("127.1.1.20"), Exempt: spare, Limits: registry.Limits{Size: 5_000_000}},
		{Name: "hundred.campus.test", Addresses: at("127.1.1.21"), Exempt: spare, Limits: registry.Limits{Session: 100, Recipients: 3}},
		{Name: "several.campus.test", Addresses: at("127.1.1.22", "127.1.5.22"), Exempt: spare},
		{Name: "range.campus.test", Addresses: at("127.1.2.0/28"), Exempt: spare},
		{Name: "seat.campus.test", Addresses: at(workstation), Exempt: spare},
		{Name: "pool.campus.test", Addresses: at(pool), Exempt: spare},
		{Name: "home.campus.test", Addresses: at(home), Exempt: spare},
		{Name: "nat.campus.test", Addresses: at(nat), Exempt: spare},
		{Name: "cloud.campus.test", Addresses: at(cloud), Exempt: spare},
		{Name: "svc.campus.test", Proof: registry.ProofCredential},
		{Name: "roaming.campus.test", Addresses: at("127.1.1.23"), Senders: []string{"roaming@campus.test"}},
	}
	for i := range list {
		d := &list[i]
		if d.Owner == "" {
			d.Owner = "chemistry-department"
		}
		if d.State == "" {
			d.State = registry.StateActive
		}
		if d.Scope == "" {
			d.Scope = registry.ScopeAnywhere
		}
		d.Class = "default"
	}
	return list
}

func at(ranges ...string) []registry.Address { return registry.MustAddresses(ranges...) }

// Credentials by the name of their device. The user name of svc is as a
// Kerberos principal looks.
const (
	loginService = "smtp-relay/svc.campus.test"
	loginBoth    = "both-1"
	loginRoaming = "roaming-1"
	loginNAT     = "nat-1"
	loginCloud   = "cloud-1"
	loginTurned  = "turned" // being rotated
	loginStopped = "stopped"
)

// secretOf is the password of a credential.
func secretOf(user string) string { return "secret of " + user }

func commandEntries() []registry.Item {
	items := []registry.Item{&registry.Owner{Name: "vendor", External: true}, &registry.Owner{Name: "chemistry-department"}}
	for _, c := range [][2]string{
		{loginService, "svc.campus.test"}, {loginBoth, "both.campus.test"}, {loginRoaming, "roaming.campus.test"},
		{loginNAT, "nat.campus.test"}, {loginCloud, "cloud.campus.test"}, {"prn-1", "prn.campus.test"},
	} {
		items = append(items, credential(c[0], c[1]))
	}
	turned := credential(loginTurned, "prn.campus.test")
	turned.Secrets = append(turned.Secrets,
		registry.Secret{Hash: registry.HashSecret("the new one")},
		registry.Secret{Hash: registry.HashSecret("the ended one"), Until: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
	stopped := credential(loginStopped, "prn.campus.test")
	stopped.Suspended = true
	return append(items, turned, stopped, credential("last", "prn.campus.test"))
}

func credential(name, device string) *registry.Credential {
	return &registry.Credential{Name: name, Device: device, Secrets: []registry.Secret{{Hash: registry.HashSecret(secretOf(name))}}}
}

// zones are a DNS in which every domain has a mail exchanger, and it is ours.
func zones() string {
	var b strings.Builder
	b.WriteString(`
$ORIGIN .
@               IN SOA ns.test. hostmaster.test. 1 3600 600 86400 1
*               IN MX 10 mx.outside.test.
*.test          IN MX 10 mx.outside.test.
*.campus.test   IN MX 10 mx.outside.test.
campus.test     IN MX 10 mx.campus.test.
failover.test   IN MX 10 mx.dead.test.
failover.test   IN MX 20 mx.outside.test.
address.test    IN A ` + outsideMX + `
mx.campus.test  IN A ` + hostedMX + `
mx.outside.test IN A ` + outsideMX + `
mx.dead.test    IN A ` + deadMX + `
mx.literal.test IN A ` + literalMX + "\n")
	for _, d := range devices() {
		for _, a := range d.Addresses {
			if a.Range.IsSingleIP() {
				b.WriteString(names(d.Name, a.Range.Addr()))
			}
		}
	}
	return b.String()
}

// names are the records of one device, which nobody may remember; those of a
// few are wrong, as their names say.
func names(name string, a netip.Addr) string {
	quad := a.As4()
	reverse := fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa. 0 IN PTR ", quad[3], quad[2], quad[1], quad[0])
	forward := " 0 IN A " + a.String() + "\n"
	const other = "another.campus.test."
	switch name {
	case "noptr.campus.test":
		return name + "." + forward
	case "otherptr.campus.test":
		return name + "." + forward + reverse + other + "\n" + other + forward
	case "noaddress.campus.test":
		return reverse + name + ".\n"
	case "manynames.campus.test":
		return name + "." + forward + reverse + other + "\n" + reverse + name + ".\n"
	}
	return name + "." + forward + reverse + name + ".\n"
}
