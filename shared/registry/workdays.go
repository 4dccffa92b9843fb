package registry

import "time"

// AnswerDays are the working days within which a request is answered (S28).
const AnswerDays = 3

// AfterWorkingDays is the time so many working days later, in the time zone of t.
// Saturdays and Sundays do not count: what comes then counts as come when Monday
// begins. Holidays are working days, here.
func AfterWorkingDays(t time.Time, days int) time.Time {
	midnight := func(t time.Time) time.Time {
		year, month, day := t.Date()
		return time.Date(year, month, day, 0, 0, 0, 0, t.Location())
	}
	for weekend(t) {
		t = midnight(t).AddDate(0, 0, 1)
	}
	for days > 0 {
		if t = t.AddDate(0, 0, 1); !weekend(t) {
			days--
		}
	}
	return t
}

func weekend(t time.Time) bool { return t.Weekday() == time.Saturday || t.Weekday() == time.Sunday }

// AnswerDue is by when somebody must have answered the request for a device, in a
// time zone; zero for one that was answered: it is no longer requested, or who
// asked was contacted.
func (d *Device) AnswerDue(zone *time.Location) time.Time {
	if d.State != StateRequested || d.Dates.Requested.IsZero() || !d.Dates.Contacted.IsZero() && !d.Dates.Contacted.Before(d.Dates.Requested) {
		return time.Time{}
	}
	return AfterWorkingDays(d.Dates.Requested.In(zone), AnswerDays)
}

// AnswerOverdue reports a request that should have been answered, in the time
// zone of now.
func (d *Device) AnswerOverdue(now time.Time) bool {
	due := d.AnswerDue(now.Location())
	return !due.IsZero() && now.After(due)
}
