package mail

import (
	"github.com/postrider/postrider/shared/smtp"
)

// Envelope is what MAIL and RCPT said (RFC 5321 §2.3.1).
type Envelope struct {
	// ReversePath is where reports go; the null path takes none.
	ReversePath smtp.ReversePath `json:"reverse_path"`
	// Recipients are the accepted forward-paths, in the order given, without
	// duplicates.
	Recipients []Recipient `json:"recipients"`
	// Body8Bit reports BODY=8BITMIME (RFC 6152).
	Body8Bit bool `json:"body_8bit,omitempty"`
}

// Recipient is one forward-path with what the sender asked for it.
type Recipient struct {
	Address smtp.ForwardPath `json:"address"`
	// Original is the recipient as the sender gave it, when the relay
	// completed or changed it.
	Original string `json:"original,omitempty"`
}

// Class is the kind of traffic; it selects the lifetime and the lane.
type Class string

// The classes of DESIGN section 4, and that of our own reports.
const (
	ClassAlert       Class = "alert"
	ClassScan        Class = "scan"
	ClassApplication Class = "application"
	ClassReport      Class = "report"
	// ClassDefault is mail of senders without a class of their own.
	ClassDefault Class = "default"
)

// Lane is the token of a class in stream subjects. Two lanes exist: alerts
// overtake a backlog of everything else.
type Lane string

// The lanes, most urgent first.
const (
	LaneAlert  Lane = "alert"
	LaneNormal Lane = "normal"
)

// Lane is the lane of the class.
func (c Class) Lane() Lane {
	if c == ClassAlert {
		return LaneAlert
	}
	return LaneNormal
}
