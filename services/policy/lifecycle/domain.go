package lifecycle

import (
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// Domain is the cause of telling that a domain of a device's senders does not
// authorise the relay any more, or never did.
const Domain Cause = "domain"

// domain tells the contacts what the daily review found (S31, S6), and again after
// a month of it. What is in doubt is not told.
func domain(d *registry.Device, use Use, _ *Rules, now time.Time) []Step {
	if last := told(d, Domain); !last.IsZero() && now.Sub(last) < firstNotice {
		return nil
	}
	var what []string
	for _, f := range use.Findings {
		if (f.Check == registry.CheckSPF || f.Check == registry.CheckSenderDomain) && !f.OK && !f.Doubt {
			what = append(what, f.About+": "+f.Text)
		}
	}
	if len(what) == 0 {
		return nil
	}
	return []Step{{Deed: Tell, Cause: Domain, Why: "receivers may refuse what it sends; " + strings.Join(what, "; ")}}
}
