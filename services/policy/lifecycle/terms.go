package lifecycle

import (
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// Terms is the cause of telling that other terms of use hold now; the registry
// knows it with their version, so that each is told of once.
const Terms Cause = "terms"

// terms tells the contacts that terms of use of another version are to be
// accepted (W11). It ends nothing: who has not is listed.
func terms(d *registry.Device, _ Use, rules *Rules, _ time.Time) []Step {
	about := Terms + Cause(" "+rules.Terms)
	if rules.Terms == "" || d.AcceptedTerms() == rules.Terms || !told(d, about).IsZero() {
		return nil
	}
	why := "the terms of use of version " + rules.Terms + " hold now"
	if rules.TermsURL != "" {
		why += " (" + rules.TermsURL + ")"
	}
	return []Step{{Deed: Tell, Cause: about, Why: why}}
}

func isTerms(c Cause) bool { return strings.HasPrefix(string(c), string(Terms)+" ") }
