package config

import (
	"net/netip"
	"slices"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/registry"
)

// Rules is the part of the configuration that authorization reads.
func (c *Config) Rules() *authz.Rules {
	hosted := make(map[string]bool, len(c.Domains.Hosted))
	for _, h := range c.Domains.Hosted {
		name := h.Name
		canonical(&name)
		hosted[name] = true
	}
	return &authz.Rules{
		Sandbox:            c.Sandbox,
		Hosted:             hosted,
		Campus:             slices.Clone(c.Networks.Campus),
		Denied:             slices.Clone(c.Networks.Deny),
		HostedFromCampus:   authz.Mode(c.Policy.HostedFromCampus),
		FCrDNS:             authz.Mode(c.Policy.FCrDNS),
		SenderMustBeHosted: authz.Mode(c.Policy.SenderMustBeHosted),
	}
}

// FileDevices are the devices of the file as registry entries of origin
// "file", copies that the caller may keep.
func (c *Config) FileDevices() []*registry.Device {
	devices := make([]*registry.Device, 0, len(c.Devices))
	for _, d := range c.Devices {
		d.Contacts = slices.Clone(d.Contacts)
		d.Addresses = slices.Clone[[]netip.Prefix](d.Addresses)
		completeDevice(&d)
		devices = append(devices, &d)
	}
	return devices
}
