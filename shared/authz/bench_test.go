package authz

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// estate is a registry with that many devices, a tenth of them with credentials
// and senders, and a hundredth as many domains.
func estate(devices int) *registry.Snapshot {
	var e registry.Entries
	for i := range devices {
		d := &registry.Device{
			Name: fmt.Sprintf("prn-%d.campus.test", i), Owner: "chem", Scope: registry.ScopeAnywhere, State: registry.StateActive,
			Addresses: []registry.Address{{Range: netip.PrefixFrom(nth(i), 32)}},
		}
		if i%10 == 0 {
			d.Senders = []string{fmt.Sprintf("prn-%d@campus.test", i), "scanner@campus.test"}
			e.Credentials = append(e.Credentials, &registry.Credential{Name: fmt.Sprintf("app-%d", i), Device: d.Name})
		}
		e.Devices = append(e.Devices, d)
	}
	for i := range max(1, devices/100) {
		e.Domains = append(e.Domains, &registry.Domain{Name: fmt.Sprintf("d%d.campus.test", i)})
	}
	for i, kind := range []registry.Kind{registry.KindCampus, registry.KindDeny, registry.KindNAT, registry.KindCloud} {
		e.Networks = append(e.Networks, &registry.Network{Range: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + i)}), 8), Kind: kind})
	}
	return registry.NewSnapshot(1, e)
}

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }

// BenchmarkDecide shows a decision's time to be flat in the number of devices.
func BenchmarkDecide(b *testing.B) {
	rules := &Rules{
		HostedFromCampus: Enforce, FCrDNS: Enforce, SenderMustBeHosted: Enforce, SenderMustExist: Enforce, PersonalSender: Enforce,
		FromField: Enforce, MustAuthenticate: Off, AddressLock: Enforce, NAT: Enforce, Cloud: Enforce, Bulk: Enforce, Helo: Enforce,
		MessageSize: 50_000_000, Recipients: 1000, SessionRelay: 1000, SessionSubmission: 100,
	}
	for _, n := range []int{100, 1_000, 10_000, 100_000} {
		reg := estate(n)
		last := n/10*10 - 10
		for name, f := range map[string]*Facts{
			"registered": {Address: nth(last), Name: fmt.Sprintf("prn-%d.campus.test", last)},
			"identity":   {Address: nth(last), Identity: fmt.Sprintf("app-%d", last)},
			"refused":    {Address: netip.MustParseAddr("192.0.2.1")},
		} {
			f.ReversePath = reverse(fmt.Sprintf("prn-%d@d0.campus.test", last))
			f.ReversePath.Domain = "d0.campus.test"
			f.Recipient = &smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "inet.test"}}
			if name != "refused" {
				d, _ := reg.ByAddress(f.Address)
				d.Senders = append(d.Senders, f.ReversePath.Address.String())
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				if v := Decide(rules, reg, f); (name == "refused") == v.Admitted() {
					b.Fatalf("%+v", v)
				}
				for b.Loop() {
					Decide(rules, reg, f)
				}
			})
		}
	}
}
