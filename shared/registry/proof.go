package registry

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
)

// Unhosted are the domains that a device sends as and that are none of the
// institution's, each once.
func (s *Snapshot) Unhosted(d *Device) (domains []string) {
	for _, list := range [][]string{d.Senders, d.HeaderSenders} {
		for _, a := range list {
			if _, domain, _ := cutLast(strings.ToLower(a), "@"); !s.Hosted(domain) {
				domains = append(domains, domain)
			}
		}
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

// SenderProof is the TXT record by which the holder of a domain allows the unit
// of a device (the device, where it has none) to send as it through a relay (S6).
// It is no secret: what it proves is that it stands there.
func SenderProof(relay string, d *Device, domain string) (name, text string) {
	who := "owner " + d.Owner
	if d.Owner == "" {
		who = "device " + d.Name
	}
	h := sha256.Sum256([]byte("postrider\n" + strings.ToLower(relay) + "\n" + who))
	return "_postrider." + domain, "postrider=" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:15]))
}

// Proved reports that a review found the proof for that domain, of a device with
// the same owner.
func (s *Snapshot) Proved(d *Device, domain string) bool {
	for _, v := range s.reviews.all() {
		other, ok := s.Device(v.Device)
		if !ok || other.Owner != d.Owner || d.Owner == "" && other.Name != d.Name {
			continue
		}
		if slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Check == CheckSenderDomain && f.About == domain && f.OK }) {
			return true
		}
	}
	return false
}

// CheckSenderDomain is the Check of a finding about a proof, CheckSPF that of one
// about an SPF policy.
const (
	CheckSenderDomain = "sender-domain"
	CheckSPF          = "spf"
)
