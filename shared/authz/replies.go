package authz

import (
	"net/netip"
	"strconv"

	"github.com/postrider/postrider/shared/smtp"
)

func pass() (Verdict, bool) { return Verdict{}, false }

func admit(reason string) (Verdict, bool) { return Verdict{Outcome: Admit, Reason: reason}, true }

func refuse(r smtp.Reply, reason string) (Verdict, bool) {
	return Verdict{Outcome: Refuse, Reply: r, Reason: reason}, true
}

func later(r smtp.Reply, reason string) (Verdict, bool) {
	return Verdict{Outcome: Later, Reply: r, Reason: reason}, true
}

func denied(text string) smtp.Reply { return smtp.Reply{Code: 550, Enhanced: "7.1", Text: text} }

// maxText is the longest text of a reply, in octets, before reference and help
// are added: with them it stays under 200.
const maxText = 100

// own shows what a sender said of itself: printable, and no longer than a text
// bears.
func own(s string) string {
	const most = 64
	b := make([]byte, 0, min(len(s), most+3))
	for i := 0; i < len(s); i++ {
		if i == most {
			return string(append(b, "..."...))
		}
		c := s[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}

// octets is a size as a person at a printer reads it, not rounded up.
func octets(n int64) string {
	switch {
	case n >= 1_000_000:
		return strconv.FormatInt(n/1_000_000, 10) + " MB"
	case n >= 1000:
		return strconv.FormatInt(n/1000, 10) + " kB"
	}
	return strconv.FormatInt(n, 10) + " octets"
}

func show(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	return a.Unmap().WithZone("").String()
}
