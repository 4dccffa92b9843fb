package registry

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAfterWorkingDays(t *testing.T) {
	zone := time.FixedZone("campus", -5*3600)
	for asked, due := range map[string]string{
		"Mon 2026-11-02 09:00": "Thu 2026-11-05 09:00",
		"Wed 2026-11-04 16:30": "Mon 2026-11-09 16:30",
		"Fri 2026-11-06 15:00": "Wed 2026-11-11 15:00",
		"Sat 2026-11-07 12:00": "Thu 2026-11-12 00:00",
		"Sun 2026-11-08 23:59": "Thu 2026-11-12 00:00",
		"Thu 2026-12-31 10:00": "Tue 2027-01-05 10:00",
	} {
		const form = "Mon 2006-01-02 15:04"
		at, err := time.ParseInLocation(form, asked, zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := AfterWorkingDays(at, AnswerDays).Format(form); got != due {
			t.Errorf("asked for on %s: due %s, want %s", asked, got, due)
		}
	}
}

// Later requests are not due earlier, none is due on a weekend, and three working
// days are never less than three days nor more than five and what is left of a
// weekend.
func TestAfterWorkingDaysOrder(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		a := start.Add(time.Duration(rapid.IntRange(0, 60*24*365).Draw(t, "asked")) * time.Minute)
		b := a.Add(time.Duration(rapid.IntRange(0, 60*24*10).Draw(t, "later")) * time.Minute)
		due := AfterWorkingDays(a, AnswerDays)
		if due.After(AfterWorkingDays(b, AnswerDays)) {
			t.Fatalf("%s is due after %s", a, b)
		}
		if weekend(due) || due.Sub(a) < 3*24*time.Hour || due.Sub(a) > 5*24*time.Hour {
			t.Fatalf("%s is due %s", a.Format(time.RFC1123), due.Format(time.RFC1123))
		}
	})
}

func TestAnswerOverdue(t *testing.T) {
	friday := time.Date(2026, 11, 6, 15, 0, 0, 0, time.UTC)
	d := &Device{State: StateRequested, Dates: Dates{Requested: friday}}
	wednesday := friday.AddDate(0, 0, 5)
	if d.AnswerOverdue(wednesday) || !d.AnswerOverdue(wednesday.Add(time.Minute)) {
		t.Errorf("due %s", d.AnswerDue(time.UTC))
	}
	d.Dates.Contacted = friday.AddDate(0, 0, 3)
	if d.AnswerOverdue(wednesday.AddDate(0, 1, 0)) {
		t.Error("who asked was contacted")
	}
	d.Dates.Contacted = friday.AddDate(-1, 0, 0) // about an earlier request
	if !d.AnswerOverdue(wednesday.AddDate(0, 1, 0)) {
		t.Error("asked for anew")
	}
	d.State = StateActive
	if d.AnswerOverdue(wednesday.AddDate(0, 1, 0)) {
		t.Error("it is active")
	}
}
