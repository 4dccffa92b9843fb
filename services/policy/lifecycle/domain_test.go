package lifecycle

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// What the review found about domains is told, once a month; doubt and other
// findings are not.
func TestDomain(t *testing.T) {
	d := printer()
	failing := registry.Finding{Check: registry.CheckSPF, About: "journal.test", Text: "add include:_spf.relay.test"}
	doubt, well, other := failing, failing, failing
	doubt.Doubt, well.OK, other.Check = true, true, "contact"
	for n, step := range []struct {
		after    int
		findings []registry.Finding
		want     bool
	}{
		{0, []registry.Finding{well, doubt, other}, false}, {1, []registry.Finding{well, failing}, true}, {1, []registry.Finding{failing}, false},
		{30, []registry.Finding{failing}, false}, {31, []registry.Finding{failing}, true}, {70, nil, false},
		{71, []registry.Finding{{Check: registry.CheckSenderDomain, About: "journal.test"}}, true},
	} {
		now := start.Add(days(step.after))
		use := always(now)
		use.Findings = step.findings
		steps := Decide(d, use, rules, now)
		if (len(steps) > 0) != step.want {
			t.Fatalf("%d: %+v", n, steps)
		}
		for _, s := range steps {
			if s.Deed != Tell || s.Cause != Domain || !strings.Contains(s.Why, "journal.test: ") || !strings.Contains(remedy(s), "publish") {
				t.Errorf("%d: %+v", n, s)
			}
			perform(d, s, now)
		}
	}
	if d.State != registry.StateActive {
		t.Errorf("%+v", d)
	}
}
