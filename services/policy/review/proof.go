package review

import (
	"context"
	"errors"
	"slices"

	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/registry"
)

// proof looks whether a device may send as a domain that is not hosted: its
// holder says so in the DNS (S6).
func (r *Reviewer) proof(ctx context.Context, d *registry.Device, domain string) registry.Finding {
	name, want := registry.SenderProof(r.Signer, d, domain)
	f := registry.Finding{Check: registry.CheckSenderDomain, About: domain}
	texts, err := r.DNS.TXT(ctx, name)
	switch {
	case err != nil && !errors.Is(err, dnsx.ErrNotExist) && !errors.Is(err, dnsx.ErrNoData):
		f.Text, f.Doubt = "ask for "+name+": "+err.Error(), true
	case slices.Contains(texts.Texts, want):
		f.OK, f.Text = true, "its holder allows it"
	default:
		f.Text = "not hosted, and its holder does not say that it is allowed; publish: " + name + " TXT \"" + want + "\""
	}
	return f
}
