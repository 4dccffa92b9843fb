package event

import (
	"net/netip"
	"slices"
	"time"
)

// Origin is where a message came from: what a holding may ask for.
type Origin struct {
	Address  netip.Addr `json:"address,omitzero"`
	Identity string     `json:"identity,omitempty"`
	// Revision is that of the registry by which ingress let it in.
	Revision uint64 `json:"registry_revision,omitempty"`
}

// Holding wants queued mail held before it is delivered: jobs by their name, or
// what one sender had sent until it was stopped. It is about what there was when
// it was made; what a person releases afterwards it does not concern.
type Holding struct {
	Schema int `json:"v"`
	// At is when, Rule what wants it (RuleHold, RuleContain), By and Reason who
	// and why.
	At     time.Time `json:"at"`
	Rule   string    `json:"rule"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	// Jobs are the ids of jobs.
	Jobs []string `json:"jobs,omitempty"`
	// Device, Address and Credential are a sender, one of them. Its mail is what
	// was accepted before At, or by a registry before Revision: that is when the
	// registry stopped it.
	Device     string       `json:"device,omitempty"`
	Address    netip.Prefix `json:"address,omitzero"`
	Credential string       `json:"credential,omitempty"`
	Revision   uint64       `json:"registry_revision,omitempty"`
}

// The rules by which people hold mail.
const (
	RuleHold    = "hold"
	RuleContain = "contain"
)

// Why is the reason of what is held: who held it, and why.
func (h *Holding) Why() string {
	if h.Reason == "" {
		return "by " + h.By
	}
	return "by " + h.By + ": " + h.Reason
}

// Covers reports a job that is to be held.
func (h *Holding) Covers(j *Job) bool {
	if !j.Released.Before(h.At) {
		return false
	}
	return slices.Contains(h.Jobs, j.ID) || j.Report == "" && h.concerns(j.Device, j.Origin, j.AcceptedAt)
}

// CoversMessage reports a message whose jobs are to be held.
func (h *Holding) CoversMessage(m *Admitted) bool {
	return m.Released.Before(h.At) && m.ReportOf == "" && h.concerns(m.Device, m.Origin, m.AcceptedAt)
}

// concerns reports mail of the sender. A report about its mail is not its own.
func (h *Holding) concerns(device string, o Origin, accepted time.Time) bool {
	switch {
	case h.Device != "":
		if device != h.Device {
			return false
		}
	case h.Credential != "":
		if o.Identity != h.Credential {
			return false
		}
	case !h.Address.IsValid() || !h.Address.Contains(o.Address.Unmap()):
		return false
	}
	return accepted.Before(h.At) || o.Revision != 0 && o.Revision < h.Revision
}
