package lifecycle

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
)

// What looks compromised (M22, X20). A stolen printer account does four things that
// its owner never does; each has a floor, below which nobody minds, and is
// otherwise measured against the device itself. What a device usually sends is
// known after a week, and is the most of any hour in thirty days: an application
// that mails every month may do so.
const (
	settled = 7 * 24 * time.Hour
	// Volume: so many messages in an hour, and so many times the usual. Devices
	// registered for bulk are let off: that is what they are for.
	volumeFloor, volumeTimes = 500, 10
	// Sprayed senders: so many different addresses in an hour, and so many times
	// the usual.
	sendersFloor, sendersTimes = 20, 5
	// Guessed recipients: so many without a mailbox in an hour, and half of all.
	unknownFloor, unknownShare = 50, 2
	// Content: so many messages that scanners object to, and a tenth of all.
	suspectFloor, suspectShare = 10, 10
)

// anomaly tells of a device that looks compromised, or stops it. An hour that began
// before the last such step is not looked at again: what was restored begins anew.
func anomaly(d *registry.Device, use Use, rules *Rules, now time.Time) []Step {
	if rules.Anomaly != authz.Observe && rules.Anomaly != authz.Enforce {
		return nil
	}
	before := told(d, Anomaly)
	for _, h := range use.Recent {
		if now.Sub(h.Start) >= 2*time.Hour || !h.Start.After(before) {
			continue
		}
		why := odd(d, h, use.Usual)
		switch {
		case why == "":
		case rules.Anomaly == authz.Enforce:
			return []Step{{Deed: Suspend, Cause: Anomaly, Why: why}}
		case now.Sub(before) >= 24*time.Hour:
			return []Step{{Deed: Tell, Cause: Anomaly, Why: why}}
		}
	}
	return nil
}

// odd says what is odd about an hour; empty for nothing.
func odd(d *registry.Device, h, usual books.Hour) string {
	known := !usual.Start.IsZero() && h.Start.Sub(usual.Start) >= settled
	at := " in the hour from " + h.Start.UTC().Format("2006-01-02 15:04") + " UTC"
	switch {
	case h.Suspect >= suspectFloor && h.Suspect*suspectShare >= h.Messages:
		return fmt.Sprintf("content scanning objects to %d of %d messages%s", h.Suspect, h.Messages, at)
	case h.Unknown >= unknownFloor && h.Unknown*unknownShare >= h.Recipients:
		return fmt.Sprintf("%d of %d recipients do not exist%s", h.Unknown, h.Recipients, at)
	case known && h.Senders >= sendersFloor && h.Senders >= sendersTimes*usual.Senders:
		return fmt.Sprintf("%d different senders%s, %d at most before", h.Senders, at, usual.Senders)
	case known && !d.Traffic.Bulk() && h.Messages >= volumeFloor && h.Messages >= volumeTimes*usual.Messages:
		return fmt.Sprintf("%d messages%s, %d at most before", h.Messages, at, usual.Messages)
	}
	return ""
}

// unsubscribeAgain is how often an owner hears that his mail cannot be
// unsubscribed from.
const unsubscribeAgain = 7 * 24 * time.Hour

// unsubscribe tells of bulk mail without the List-Unsubscribe field: to add it is
// the application's job (W43).
func unsubscribe(d *registry.Device, use Use, _ *Rules, now time.Time) []Step {
	bare := 0
	for _, h := range use.Recent {
		bare += h.Bare
	}
	if bare == 0 || now.Sub(told(d, Unsubscribe)) < unsubscribeAgain {
		return nil
	}
	return []Step{{Deed: Tell, Cause: Unsubscribe, Why: fmt.Sprintf("%d bulk messages have no List-Unsubscribe field, which large mailbox providers refuse", bare)}}
}
