package event

// Quirk is something that was done to a message, or in its session, for a
// device that nobody can reconfigure; or a mark: something that is odd about it.
type Quirk struct {
	Name string `json:"quirk"`
	// Was is what was there before: an address, a field body, the keywords that
	// were hidden, or the number of octets that were repaired, or of hops.
	Was string `json:"was,omitempty"`
}

// The quirks.
const (
	QuirkReversePath = "reverse-path"    // replaced, or completed
	QuirkRecipient   = "recipient"       // completed
	QuirkFrom        = "from"            // the From field was replaced, or completed
	QuirkNewlines    = "repair-newlines" // bare CR and LF, and NUL
	QuirkHidden      = "hide-ehlo"       // keywords that EHLO did not show
)

// The marks.
const (
	MarkHops          = "foreign-hops"        // it brought along so many Received fields (W4)
	MarkNoUnsubscribe = "no-list-unsubscribe" // bulk without that field (W43)
)

// String is the quirk for people: "from was root@localhost".
func (q Quirk) String() string {
	switch {
	case q.Was == "":
		return q.Name
	case q.Name == QuirkNewlines || q.Name == QuirkHidden || q.Name == MarkHops:
		return q.Name + ": " + q.Was
	}
	return q.Name + " was " + q.Was
}
