package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
)

// usual is what a device sent in its busiest hour, for a month now.
var usual = books.Hour{Start: start.Add(-days(30)), Messages: 40, Senders: 2}

// Each measure has a floor, and compares a device with itself.
func TestOdd(t *testing.T) {
	for _, test := range []struct {
		name  string
		hour  books.Hour
		usual books.Hour
		want  string // in the reason; empty: nothing is odd
	}{
		{"as usual", books.Hour{Messages: 60, Recipients: 60, Senders: 2}, usual, ""},
		{"below the floor of volume", books.Hour{Messages: 499, Recipients: 499, Senders: 2}, usual, ""},
		{"volume", books.Hour{Messages: 500, Recipients: 500, Senders: 2}, usual, "500 messages in the hour from 2026-01-01 00:00 UTC, 40 at most before"},
		{"volume that is usual", books.Hour{Messages: 5000, Senders: 2}, books.Hour{Start: usual.Start, Messages: 501}, ""},
		{"volume of a newcomer", books.Hour{Messages: 5000, Senders: 200}, books.Hour{Start: start.Add(-days(6))}, ""},
		{"volume of one never heard of", books.Hour{Messages: 5000, Senders: 200}, books.Hour{}, ""},
		{"below the floor of senders", books.Hour{Messages: 19, Senders: 19}, usual, ""},
		{"sprayed senders", books.Hour{Messages: 20, Senders: 20}, usual, "20 different senders"},
		{"many senders as usual", books.Hour{Messages: 100, Senders: 100}, books.Hour{Start: usual.Start, Messages: 100, Senders: 30}, ""},
		{"a few typing errors", books.Hour{Messages: 49, Recipients: 49, Unknown: 49}, usual, ""},
		{"guessed recipients", books.Hour{Messages: 1, Recipients: 100, Unknown: 50}, books.Hour{}, "50 of 100 recipients do not exist"},
		{"an old list", books.Hour{Messages: 1, Recipients: 101, Unknown: 50}, books.Hour{}, ""},
		{"content", books.Hour{Messages: 100, Suspect: 10}, books.Hour{}, "content scanning objects to 10 of 100"},
		{"little content", books.Hour{Messages: 101, Suspect: 10}, books.Hour{}, ""},
	} {
		test.hour.Start = start
		if got := odd(printer(), test.hour, test.usual); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	d := printer()
	d.Traffic = registry.TrafficNewsletter
	if got := odd(d, books.Hour{Start: start, Messages: 5000}, usual); got != "" {
		t.Errorf("a newsletter: %q", got)
	}
}

// Off, observe and enforce; an hour is looked at once, and once a day is enough to
// be told.
func TestAnomaly(t *testing.T) {
	use := func(hour int) Use {
		return Use{Usual: usual, Recent: []books.Hour{{Start: start.Add(time.Duration(hour) * time.Hour), Messages: 900, Recipients: 900}}}
	}
	ask := func(d *registry.Device, mode authz.Mode, hour int, after time.Duration) string {
		now := start.Add(time.Duration(hour)*time.Hour + after)
		var done []string
		for _, s := range anomaly(d, use(hour), &Rules{Anomaly: mode}, now) {
			done = append(done, string(s.Deed))
			perform(d, s, now)
		}
		return strings.Join(done, " ")
	}
	d := printer()
	for _, step := range []struct {
		mode  authz.Mode
		hour  int
		after time.Duration
		want  string
	}{
		{authz.Off, 1, time.Minute, ""}, {"", 1, time.Minute, ""},
		{authz.Observe, 1, 2 * time.Hour, ""}, // too long ago
		{authz.Observe, 1, 10 * time.Minute, "tell"}, {authz.Observe, 1, 11 * time.Minute, ""},
		{authz.Observe, 2, 30 * time.Minute, ""}, {authz.Observe, 26, 30 * time.Minute, "tell"},
		{authz.Enforce, 26, 50 * time.Minute, ""}, {authz.Enforce, 27, time.Minute, "suspend"},
	} {
		if got := ask(d, step.mode, step.hour, step.after); got != step.want {
			t.Errorf("%+v: %q", step, got)
		}
	}
	if s := d.Suspension; s == nil || s.Cause != "anomaly" || !s.NeedsTicket || !strings.Contains(d.Reason, "900 messages") {
		t.Errorf("%+v", d)
	}
}

// Whoever sends bulk without the field hears of it weekly.
func TestUnsubscribe(t *testing.T) {
	d := printer()
	told := 0
	for n := range 15 {
		now := start.Add(days(n))
		for _, s := range Decide(d, Use{Last: now, Recent: []books.Hour{{Start: now, Bare: 3}}}, rules, now) {
			if s.Deed != Tell || s.Cause != Unsubscribe || !strings.HasPrefix(s.Why, "3 bulk messages") {
				t.Errorf("%+v", s)
			}
			perform(d, s, now)
			told++
		}
	}
	if told != 3 {
		t.Errorf("told %d times in 15 days", told)
	}
}

// Many that look compromised at once are an outbreak, or nothing: a person decides.
func TestManyAnomalies(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.rules.Anomaly = authz.Enforce
	for n := range 6 {
		r.register(n, "it@campus.test")
	}
	r.roundAt(0)
	for n := range 6 {
		name := fmt.Sprintf("prn-%d.campus.test", n)
		r.used[name] = books.Use{Device: name, Last: start, Recent: []books.Hour{{Start: start.Add(time.Hour), Messages: 20, Suspect: 20}}}
	}
	r.roundAt(90 * time.Minute)
	for n := range 6 {
		if d := r.device(n); d.State != registry.StateActive {
			t.Errorf("%s is %s", d.Name, d.State)
		}
	}
	if r.why == nil || !strings.Contains(r.why.Error(), "6 devices would be suspended since they look compromised") {
		t.Errorf("alarm: %v", r.why)
	}
	delete(r.used, "prn-0.campus.test")
	r.roundAt(91 * time.Minute)
	if d := r.device(1); d.State != registry.StateSuspended || d.Suspension.Cause != "anomaly" || !d.Suspension.NeedsTicket || r.why != nil {
		t.Errorf("%+v, %v", d, r.why)
	}
	last := r.notices()
	if text := strings.Join(last, "\n"); strings.Count(text, "it@campus.test postmaster@relay.campus.test: prn-") != 5 || !strings.Contains(text, "suspended, since it looks compromised") {
		t.Errorf("notices %q", last)
	}
}
