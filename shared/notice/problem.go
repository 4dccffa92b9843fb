package notice

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// Trouble is what went wrong with the mail of a device (M24).
type Trouble struct {
	// Since is where the counts begin: of attempts that were refused, and of
	// messages that failed.
	Since           time.Time
	Refused, Failed int
	// Samples are some of them; the newest MaxSamples are shown.
	Samples []Sample
}

// MaxSamples is how many examples a notice shows.
const MaxSamples = 10

// Sample is one event, in words that its sender may read.
type Sample struct {
	At   time.Time
	Text string
}

// Refused is a refusal as an example: what the device was told, and its reference.
func Refused(r *event.Refusal) Sample {
	said := "the connection ended at " + r.Stage
	if cause, ok := r.Cause(); ok {
		said += ": " + cause.About
	}
	if !r.Reply.IsZero() {
		said = r.Reply.String()
	}
	text := "refused from " + r.Facts.Address.String() + ": " + said
	if r.Ref != "" {
		text += " (" + string(r.Ref) + ")"
	}
	if r.Count > 1 {
		text += fmt.Sprintf(" (%d times in that minute)", r.Count)
	}
	return Sample{r.At, text}
}

// Failed is a recipient that was not served as an example.
func Failed(r books.Row) Sample {
	s := Sample{Text: "not delivered to " + r.Recipient + ", " + r.State}
	if r.Diagnostic != "" {
		s.Text += ": " + r.Diagnostic
	}
	s.Text += " (" + string(r.QueueID) + ")"
	if r.SettledAt != nil {
		s.At = *r.SettledAt
	}
	return s
}

// ProblemSubject is the subject of a problem notice.
func ProblemSubject(d *registry.Device) string { return d.Name + ": mail from it has a problem" }

// Problem is the text of a problem notice.
func Problem(d *registry.Device, t *Trouble) []string {
	lines := About(d)
	lines = append(lines, "", fmt.Sprintf("What:     since %s, %s, and %s.", minute(t.Since),
		count(t.Refused, "attempt to send was refused", "attempts to send were refused"), count(t.Failed, "message was not delivered", "messages were not delivered")))
	samples := slices.Clone(t.Samples)
	slices.SortStableFunc(samples, func(a, b Sample) int { return b.At.Compare(a.At) })
	for i, s := range samples[:min(len(samples), MaxSamples)] {
		label := "          "
		if i == 0 {
			label = "Samples:  "
		}
		lines = append(lines, label+minute(s.At)+"  "+oneLine(s.Text))
	}
	return append(lines,
		"Do:       what the samples say. By the reference in brackets the help desk finds the",
		"          reason and the remedy.", "")
}

// About are the lines that say which device a notice is about.
func About(d *registry.Device) []string {
	lines := []string{"Device:   " + d.Name}
	if d.Owner != "" {
		lines = append(lines, "Owner:    "+d.Owner)
	}
	for _, a := range d.Addresses {
		if a.Active() {
			lines = append(lines, "Address:  "+a.String())
		}
	}
	return lines
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// oneLine keeps what others said to one line of printable ASCII.
func oneLine(s string) string {
	const most = 300
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), most)]
}

// Of is the device that a client is: by its credential, else by its address.
func Of(reg *registry.Snapshot, address netip.Addr, identity string) string {
	if identity != "" {
		if d, ok := reg.ByCredential(identity); ok {
			return d.Name
		}
	}
	if d, ok := reg.ByAddress(address); ok && address.IsValid() {
		return d.Name
	}
	return ""
}

// longest is how long before it fails a message may have been accepted.
const longest = 7 * 24 * time.Hour

// FailedSince counts the messages of a device of which a recipient was returned
// or ran out of time since then, and gives the last of them as samples.
func FailedSince(ctx context.Context, export func(context.Context, books.Filter, func(books.Row) error) error, device string, since time.Time) (n int, samples []Sample, err error) {
	f := books.Filter{Device: device, Since: since.Add(-longest), States: []string{string(event.Bounced), string(event.Expired)}}
	messages := map[mail.QueueID]bool{}
	err = export(ctx, f, func(r books.Row) error {
		// A report that came back is no mail of the device.
		if r.Sender == "" || r.SettledAt == nil || r.SettledAt.Before(since) {
			return nil
		}
		messages[r.QueueID] = true
		if samples = append(samples, Failed(r)); len(samples) > MaxSamples {
			samples = samples[1:]
		}
		return nil
	})
	return len(messages), samples, err
}
