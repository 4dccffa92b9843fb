package review

import (
	"context"
	"errors"
	"slices"

	"github.com/postrider/postrider/services/policy/standing"
	"github.com/postrider/postrider/shared/registry"
)

// Directory says what kind of address one is.
type Directory interface {
	Class(ctx context.Context, address string) (standing.Class, error)
}

// senders looks at the registered addresses of a device, in their order (S5, P31).
func (r *Reviewer) senders(ctx context.Context, d *registry.Device) (out []registry.Finding) {
	if r.Directory == nil {
		return nil
	}
	for _, address := range append(slices.Clone(d.Senders), d.HeaderSenders...) {
		out = append(out, r.sender(ctx, address))
	}
	return out
}

func (r *Reviewer) sender(ctx context.Context, address string) registry.Finding {
	f := registry.Finding{Check: "sender", About: address}
	class, err := r.Directory.Class(ctx, address)
	switch {
	case errors.Is(err, standing.ErrDown):
		f.Doubt, f.Text = true, "directory does not answer" // without reasons, which change every time
	case err != nil:
		f.Doubt, f.Text = true, err.Error()
	case class == standing.Absent:
		f.Text = "the directory has no such address; register one that it has, or have it entered"
	case class == standing.Person:
		f.Check, f.Text = "personal-sender", "a person's address; register a functional account or a mailing list instead"
	default:
		f.OK, f.Text = true, "the directory has it, of class "+string(class)
	}
	return f
}
