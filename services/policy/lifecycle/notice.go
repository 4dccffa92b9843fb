package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/notice"
	"github.com/postrider/postrider/shared/registry"
)

// message is the notice of a step to the contacts of a device. Names and
// addresses were checked when they were registered; what is said is ours.
func message(relay config.Relay, d *registry.Device, s Step, to []string, now time.Time) *notice.Message {
	m := &notice.Message{
		Relay: relay, To: to, Subject: printable(d.Name + ": " + subject(s)), At: now, Writer: actor, Device: d.Name, Owner: d.Owner,
		ID: mail.QueueIDAt(now.Truncate(time.Hour), fmt.Sprintf("notice/%s/%s/%s/%d", d.Name, s.Deed, s.Cause, d.Revision)),
	}
	for _, line := range text(d, s) {
		m.Lines = append(m.Lines, printable(line))
	}
	return m
}

func subject(s Step) string {
	switch {
	case s.Cause == Activated:
		return "may send mail now"
	case s.Deed == Suspend && s.Cause == Anomaly:
		return "suspended, since it looks compromised"
	case s.Deed == Suspend:
		return "suspended"
	case s.Deed == Retire:
		return "registration ended"
	case s.Deed == Drop:
		return s.Address.String() + " may no longer send"
	case !s.At.IsZero():
		return "registration needs you before " + day(s.At)
	}
	return "mail from it has a problem" // reports, anomaly, unsubscribe
}

func text(d *registry.Device, s Step) []string {
	lines := append(notice.About(d), "", "What:     "+s.Why+".")
	if !s.At.IsZero() {
		lines = append(lines, fmt.Sprintf("Then:     on %s, %s.", day(s.At), consequence(s)))
	}
	return append(lines, "Do:       "+remedy(s), "")
}

func consequence(s Step) string {
	switch {
	case s.Cause == Attestation:
		return "the attestation runs out; a month later the device may no longer send"
	case s.Address.Range.IsValid():
		return s.Address.String() + " may no longer send"
	}
	return "the device may no longer send"
}

// remedy is what the contact can do about it.
func remedy(s Step) string {
	switch s.Cause {
	case Activated:
		return "configure it now; answer this address if you did not ask for it."
	case Expiry:
		return "ask the postmaster to renew the registration, or do nothing if it is no longer needed."
	case Attestation:
		return "attest again that the device is protected against misuse."
	case Reports:
		return "set its sender to an address that receives mail. It is restored on a ticket, after the fix."
	case Anomaly:
		if s.Deed == Suspend {
			return "look at the device and its accounts. It is restored on a ticket, after somebody has looked."
		}
		return "look whether the device does what it should; if it does, do nothing."
	case Domain:
		return "have whoever runs the domain publish that, or send as another one."
	case Unsubscribe:
		return "have the application write List-Unsubscribe and List-Unsubscribe-Post (RFC 8058): the relay adds none."
	}
	return "send a message from it, or do nothing if it is no longer needed."
}

// printable keeps a line to printable ASCII, and short enough for any reader.
func printable(s string) string {
	const most = 900
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), most)]
}
