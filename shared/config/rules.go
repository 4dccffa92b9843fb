package config

import (
	"net/netip"
	"slices"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/registry"
)

// Rules is the part of the configuration that authorization reads.
func (c *Config) Rules() *authz.Rules {
	return &authz.Rules{
		Sandbox:            c.Sandbox,
		HostedFromCampus:   authz.Mode(c.Policy.HostedFromCampus),
		FCrDNS:             authz.Mode(c.Policy.FCrDNS),
		SenderMustBeHosted: authz.Mode(c.Policy.SenderMustBeHosted),
		SenderMustExist:    authz.Mode(c.Policy.SenderMustExist),
		PersonalSender:     authz.Mode(c.Policy.PersonalSender),
		FromField:          authz.Mode(c.Policy.FromField),
		MustAuthenticate:   authz.Mode(c.Policy.MustAuthenticate),
		AddressLock:        authz.Mode(c.Policy.AddressLock),
		NAT:                authz.Mode(c.Policy.NAT),
		Cloud:              authz.Mode(c.Policy.Cloud),
		Bulk:               authz.Mode(c.Policy.Bulk),
		Helo:               authz.Mode(c.Policy.HeloAmpersand),
		Observing:          c.Policy.Observe,
		Postmaster:         c.Relay.Postmaster,
		SenderWildcards:    c.Policy.SenderWildcards,
		MessageSize:        int64(c.Limits.MessageSize),
		Recipients:         c.Limits.Recipients,
		SessionRelay:       c.Limits.MessagesPerSession.Relay,
		SessionSubmission:  c.Limits.MessagesPerSession.Submission,
	}
}

// FileEntries are the entries of the registry that the file makes: devices,
// hosted domains and networks. They are copies that the caller may keep.
func (c *Config) FileEntries() registry.Entries {
	var e registry.Entries
	for _, d := range c.Devices {
		d.Contacts, d.Addresses = slices.Clone(d.Contacts), slices.Clone(d.Addresses)
		d.Senders, d.HeaderSenders = slices.Clone(d.Senders), slices.Clone(d.HeaderSenders)
		completeDevice(&d)
		e.Devices = append(e.Devices, &d)
	}
	for _, h := range c.Domains.Hosted {
		canonical(&h.Name)
		e.Domains = append(e.Domains, &registry.Domain{Name: h.Name, Route: h.Route, Internal: h.Internal})
	}
	for kind, list := range c.Networks.byKind() {
		for _, p := range list {
			e.Networks = append(e.Networks, &registry.Network{Range: p, Kind: kind})
		}
	}
	return e
}

// byKind are the networks as the registry sorts them.
func (n *Networks) byKind() map[registry.Kind][]netip.Prefix {
	return map[registry.Kind][]netip.Prefix{
		registry.KindCampus: n.Campus, registry.KindDeny: n.Deny, registry.KindWorkstations: n.Workstations, registry.KindDHCP: n.DHCP,
		registry.KindResidential: n.Residential, registry.KindNAT: n.NAT, registry.KindCloud: n.Cloud,
	}
}
