package lifecycle

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// notice is a message to the contacts of a device.
type notice struct {
	ID     mail.QueueID
	Relay  config.Relay
	Device *registry.Device
	Step   Step
	To     []string
	At     time.Time
}

// compose writes the whole message with CRLF, in 7 bits. The same notice gives
// the same octets. Names and addresses were checked when they were registered;
// what is said is ours.
func compose(n notice) []byte {
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("Received", "by "+n.Relay.Hostname+" (Postrider)\r\n\tid "+string(n.ID)+"; "+mail.FormatDate(n.At))
	field("From", "Mail relay <postmaster@"+n.Relay.Hostname+">")
	field("To", strings.Join(n.To, ",\r\n\t"))
	field("Subject", printable(n.Device.Name+": "+subject(n.Step)))
	field("Date", mail.FormatDate(n.At))
	field("Message-ID", messageID(n.ID, n.Relay.Hostname))
	field("Auto-Submitted", "auto-generated") // RFC 3834
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=us-ascii")
	b.WriteString("\r\n")
	for _, line := range text(n) {
		b.WriteString(printable(line) + "\r\n")
	}
	return b.Bytes()
}

func messageID(id mail.QueueID, hostname string) string {
	return "<" + string(id) + "@" + hostname + ">"
}

func subject(s Step) string {
	switch {
	case s.Cause == Activated:
		return "may send mail now"
	case s.Deed == Suspend:
		return "suspended"
	case s.Deed == Retire:
		return "registration ended"
	case s.Deed == Drop:
		return s.Address.String() + " may no longer send"
	case isTerms(s.Cause):
		return "new terms of use"
	case !s.At.IsZero():
		return "registration needs you before " + day(s.At)
	}
	return "mail from it has a problem"
}

func text(n notice) []string {
	d, s := n.Device, n.Step
	lines := []string{"Device:   " + d.Name}
	if d.Owner != "" {
		lines = append(lines, "Owner:    "+d.Owner)
	}
	for _, a := range d.Addresses {
		lines = append(lines, "Address:  "+a.String())
	}
	lines = append(lines, "", "What:     "+s.Why+".")
	if !s.At.IsZero() {
		lines = append(lines, fmt.Sprintf("Then:     on %s, %s.", day(s.At), consequence(s)))
	}
	lines = append(lines, "Do:       "+remedy(s), "")
	if n.Relay.HelpURL != "" {
		lines = append(lines, "Help:     "+n.Relay.HelpURL)
	}
	return append(lines, "Contact:  postmaster@"+n.Relay.Hostname)
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
	if isTerms(s.Cause) {
		return "read the terms of use, and tell the postmaster that you accept them."
	}
	switch s.Cause {
	case Activated:
		return "configure it now; answer this address if you did not ask for it."
	case Expiry:
		return "ask the postmaster to renew the registration, or do nothing if it is no longer needed."
	case Attestation:
		return "attest again that the device is protected against misuse."
	case Reports:
		return "set its sender to an address that receives mail. It is restored on a ticket, after the fix."
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
