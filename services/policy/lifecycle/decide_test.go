package lifecycle

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/registry"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rules = &Rules{
		UnusedNotice: days(180), UnusedEnd: days(210), Attestation: days(365), Reports: 3, ReportsWithin: days(1), ReportsMost: 5, Problems: 20,
	}
)

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func printer() *registry.Device {
	d := &registry.Device{Name: "prn.campus.test", State: registry.StateActive, Addresses: registry.MustAddresses("10.1.1.1")}
	d.Origin, d.At = registry.OriginCommand, start
	d.Dates.Activated = start
	d.Told = map[string]time.Time{string(Activated): start, "activated 10.1.1.1": start}
	return d
}

// live lets a device live day by day, does what is decided, and returns what was
// done on which day.
func live(d *registry.Device, until int, use func(now time.Time) Use) map[int][]string {
	done := map[int][]string{}
	for n := range until {
		now := start.Add(days(n))
		for _, s := range Decide(d, use(now), rules, now) {
			done[n] = append(done[n], string(s.Deed)+" "+string(s.Cause))
			perform(d, s, now)
		}
	}
	return done
}

// nothing is a device that sends nothing.
func nothing(time.Time) Use { return Use{} }

// always is one that has just sent, from its first address.
func always(now time.Time) Use {
	return Use{Last: now, ByAddress: map[netip.Addr]time.Time{netip.MustParseAddr("10.1.1.1"): now}}
}

func TestLife(t *testing.T) {
	for _, test := range []struct {
		name  string
		with  func(*registry.Device)
		use   func(time.Time) Use
		until int
		want  map[int][]string
	}{
		{"told once that it is active", func(d *registry.Device) { d.Told = nil }, always, 400, map[int][]string{0: {"tell activated"}}},
		{"in use", func(*registry.Device) {}, always, 2000, map[int][]string{}},
		{"unused", func(*registry.Device) {}, nothing, 400, map[int][]string{180: {"tell unused"}, 210: {"retire unused"}}},
		{"one address unused", func(d *registry.Device) { d.Addresses = registry.MustAddresses("10.1.1.1", "10.1.1.2", "10.2.0.0/24") }, always, 400,
			map[int][]string{0: {"tell activated"}, 180: {"tell unused 10.1.1.2"}, 210: {"drop unused"}}},
		{"expires", func(d *registry.Device) { d.Dates.Expires = start.Add(days(100)) }, always, 400,
			map[int][]string{70: {"tell expiry"}, 93: {"tell expiry"}, 100: {"retire expiry"}}},
		{"not attested again", func(d *registry.Device) { d.Dates.Attested = start }, always, 500,
			map[int][]string{335: {"tell attestation"}, 358: {"tell attestation"}, 395: {"suspend attestation"}}},
		{"from a file", func(d *registry.Device) { d.Origin = registry.OriginFile }, nothing, 400, map[int][]string{}},
		{"suspended", func(d *registry.Device) { d.State = registry.StateSuspended }, nothing, 400, map[int][]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := printer()
			test.with(d)
			if got := live(d, test.until, test.use); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// A job that did not run for half a year still tells before it ends anything.
func TestToldBeforeTheEnd(t *testing.T) {
	d := printer()
	now := start.Add(days(400))
	steps := Decide(d, Use{}, rules, now)
	if len(steps) != 1 || steps[0].Deed != Tell || steps[0].At != now.Add(days(7)) {
		t.Fatalf("%+v", steps)
	}
	perform(d, steps[0], now)
	for n := range 7 {
		if s := Decide(d, Use{}, rules, now.Add(days(n))); len(s) != 0 {
			t.Errorf("day %d: %+v", n, s)
		}
	}
	if s := Decide(d, Use{}, rules, now.Add(days(7))); len(s) != 1 || s[0].Deed != Retire {
		t.Errorf("%+v", s)
	}
	used := Use{Last: now.Add(days(3))}
	if s := Decide(d, used, rules, now.Add(days(7))); len(s) != 0 {
		t.Errorf("used again: %+v", s)
	}
}

func TestUndeliverableReports(t *testing.T) {
	d := printer()
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	ask := func(now int, undeliverable ...int) (deeds []Deed) {
		use := Use{Last: hour(now)}
		for _, n := range undeliverable {
			use.Undeliverable = append(use.Undeliverable, hour(n))
		}
		for _, s := range Decide(d, use, rules, hour(now)) {
			deeds = append(deeds, s.Deed)
			perform(d, s, hour(now))
		}
		return deeds
	}
	if got := ask(30); got != nil {
		t.Errorf("none: %v", got)
	}
	if got := ask(31, 30, 30, 30, 30); !reflect.DeepEqual(got, []Deed{Tell}) {
		t.Errorf("four before anybody was told: %v", got)
	}
	if got := ask(32, 30, 30, 30, 30); got != nil {
		t.Errorf("what was before the notice: %v", got)
	}
	if got := ask(40, 30, 32, 33); got != nil {
		t.Errorf("two after it: %v", got)
	}
	if got := ask(41, 32, 33, 34); !reflect.DeepEqual(got, []Deed{Suspend}) || d.State != registry.StateSuspended || !d.Suspension.NeedsTicket {
		t.Errorf("three after it: %v, %+v", got, d.Suspension)
	}
}

// Contacts hear of many failures, once a day.
func TestProblems(t *testing.T) {
	troubled := func(refused, failed int) func(time.Time) Use {
		return func(now time.Time) Use {
			use := always(now)
			use.Refused, use.Failed = refused, failed
			return use
		}
	}
	if got := live(printer(), 3, troubled(10, 9)); len(got) != 0 {
		t.Errorf("19 are not many: %v", got)
	}
	want := map[int][]string{0: {"tell problem"}, 1: {"tell problem"}, 2: {"tell problem"}}
	if got := live(printer(), 3, troubled(10, 10)); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	d, use := printer(), troubled(0, 500)(start)
	perform(d, Decide(d, use, rules, start)[0], start)
	if s := Decide(d, use, rules, start.Add(23*time.Hour)); len(s) != 0 || d.State != registry.StateActive {
		t.Errorf("%+v", s)
	}
	off := *rules
	off.Problems = 0
	if s := Decide(printer(), use, &off, start); len(s) != 0 {
		t.Errorf("switched off: %+v", s)
	}
}

// What was done is not asked for again, whatever the device and the time.
func TestDoneIsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := printer()
		moment := func(name string) time.Time {
			if rapid.Bool().Draw(t, name+" never") {
				return time.Time{}
			}
			return start.Add(time.Duration(rapid.IntRange(-500, 500).Draw(t, name)) * 24 * time.Hour)
		}
		d.Dates.Expires, d.Dates.Attested, d.Dates.Activated = moment("expires"), moment("attested"), moment("activated")
		d.Told = map[string]time.Time{}
		for _, c := range []Cause{Activated, Expiry, Unused, Attestation, Reports} {
			if at := moment("told " + string(c)); !at.IsZero() {
				d.Told[string(c)] = at
			}
		}
		d.Addresses = registry.MustAddresses("10.1.1.1", "10.1.1.2")
		use := Use{Last: moment("used"), ByAddress: map[netip.Addr]time.Time{netip.MustParseAddr("10.1.1.1"): moment("used from")}}
		for range rapid.IntRange(0, 5).Draw(t, "undeliverable") {
			use.Undeliverable = append(use.Undeliverable, moment("undeliverable"))
		}
		now := start.Add(days(500))
		for round := range 10 {
			steps := Decide(d, use, rules, now)
			if len(steps) == 0 {
				return
			}
			if round == 9 {
				t.Fatalf("still %+v of %+v", steps, d.Dates)
			}
			for _, s := range steps {
				perform(d, s, now)
			}
		}
	})
}
