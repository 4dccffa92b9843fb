package lifecycle

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

// Contacts hear once of each version of the terms of use that they have not
// accepted.
func TestTerms(t *testing.T) {
	d := printer()
	tell := func(r *Rules, after int) (out []string) {
		now := start.Add(days(after))
		for _, s := range Decide(d, always(now), r, now) {
			out = append(out, string(s.Deed)+" "+string(s.Cause))
			perform(d, s, now)
			text := string(message(config.Relay{Hostname: "relay.campus.test"}, d, s, []string{"a@campus.test"}, now).Compose())
			for _, want := range []string{"Subject: prn.campus.test: new terms of use\r\n", "version " + r.Terms + " hold now (https://relay.campus.test/terms).", "tell the postmaster that you accept them"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
		}
		return out
	}
	version := func(v string) *Rules { return &Rules{Terms: v, TermsURL: "https://relay.campus.test/terms"} }
	for n, step := range []struct {
		now, accepted, want string
	}{
		{"", "", ""}, {"2026-09", "", "tell terms 2026-09"}, {"2026-09", "", ""}, {"2026-09", "2026-09", ""},
		{"2027-01", "2026-09", "tell terms 2027-01"}, {"2027-01", "2026-09", ""}, {"2026-09", "2026-09", ""},
	} {
		if step.accepted != "" {
			d.Application = &registry.Application{TermsVersion: step.accepted}
		}
		if got := strings.Join(tell(version(step.now), n), ", "); got != step.want {
			t.Errorf("%d: %q, want %q", n, got, step.want)
		}
	}
	if d.State != registry.StateActive || d.Told["terms 2027-01"].IsZero() {
		t.Errorf("%+v", d)
	}
}
