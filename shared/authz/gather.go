package authz

import (
	"net/netip"
	"strings"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// How facts are made of what was found out: ingress does it, and who asks what
// ingress would say.

// NameOf is the forward-confirmed name to go by: the one that the device at the
// address is registered by, else the first; empty where there is none.
func NameOf(reg *registry.Snapshot, client netip.Addr, confirmed []string) string {
	if d, ok := reg.ByAddress(client); ok {
		for _, name := range confirmed {
			if strings.EqualFold(strings.TrimSuffix(name, "."), d.Name) {
				return d.Name
			}
		}
	}
	if len(confirmed) > 0 {
		return strings.TrimSuffix(confirmed[0], ".")
	}
	return ""
}

// FaultOf is the worst that is wrong with the From fields.
func FaultOf(from mail.From) Fault {
	switch {
	case from.Unreadable:
		return FromUnreadable
	case from.Fields == 0:
		return FromMissing
	case from.Disguised:
		return FromDisguised
	case from.Group:
		return FromGroup
	case from.Fields > 1 || len(from.Addresses) > 1:
		return FromMultiple
	}
	return ""
}
