package delivery

import (
	"errors"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/smtpclient"
)

// Replies of our own to recipients whom no host answered.
var (
	replyBusy        = smtp.Reply{Code: 451, Enhanced: "4.5", Text: "Destination is busy, delivery waits its turn"}
	replyAuth        = smtp.Reply{Code: 451, Enhanced: "7.0", Text: "Relay could not authenticate to its next hop"}
	replyRouteLoop   = smtp.Reply{Code: 451, Enhanced: "4.6", Text: "Route of this destination leads back to this relay"}
	replyNoDANE      = smtp.Reply{Code: 451, Enhanced: "7.10", Text: "Destination needs DANE, which this relay cannot check"}
	replyNoRoute     = smtp.Reply{Code: 451, Enhanced: "4.4", Text: "Relay may deliver by configured routes only"}
	replyUntrusted   = smtp.Reply{Code: 451, Enhanced: "7.10", Text: "Encryption needed, but the destination's certificate is not valid for its name"}
	replyContentGone = smtp.Reply{Code: 451, Enhanced: "3.0", Text: "Relay cannot read the message, its operator must help"}
	replyCutShort    = smtp.Reply{Code: 451, Enhanced: "3.2", Text: "Relay was stopped during delivery"}
)

// fate is what one attempt decided for one recipient.
type fate int

const (
	open      fate = iota // not decided yet
	delivered             // the next hop took it
	delayed               // another attempt is due
	failed                // no attempt can help
)

// ending is a recipient in the course of an attempt.
type ending struct {
	mail.Recipient
	fate  fate
	reply smtp.Reply
	// at is who replied, zero when the reply is ours.
	at witness
	// doubt: the dot was sent, now or in an earlier attempt, and its reply lost.
	doubt bool
}

// witness is the host that said something, and over what.
type witness struct {
	mta string // "mx.test [192.0.2.1]"
	tls string // "TLS1.3 TLS_AES_128_GCM_SHA256 verified"; empty in clear
}

// record is the ending as the ledger keeps it.
func (e *ending) record(textLimit int) event.RecipientRecord {
	reply := e.reply
	reply.Text = clip(reply.Text, textLimit)
	return event.RecipientRecord{
		Address: e.Address, Original: e.Original, Reply: reply, RemoteMTA: e.at.mta, TLS: e.at.tls,
		PossibleDuplicate: e.doubt,
	}
}

// clip bounds what a remote server may make us store.
func clip(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// trouble is why a host did not serve the open recipients.
type trouble struct {
	reply smtp.Reply
	at    witness
	// final: the reply is permanent and speaks about the destination.
	final bool
	// cause is for our log.
	cause error
}

// verdict decides for one recipient what the server said about it in a
// transaction. It leaves the recipient open when another host may do better:
// after a session-level failure, but not after the dot was sent, since a
// second copy could follow the first.
//
// A recipient's own 4yz does not open the next MX: the hosts of a domain
// share their mailboxes and their greylists, and a retry is due anyway.
func verdict(r smtpclient.RecipientResult, unknown bool) (fate, smtp.Reply, bool) {
	var said *smtp.Error
	switch {
	case r.Err == nil:
		return delivered, r.Reply, false
	case errors.As(r.Err, &said) && said.Reply.Code == 421: // RFC 5321 §3.8: the host closes
		return open, said.Reply, false
	case errors.As(r.Err, &said) && said.Reply.Permanent():
		return failed, said.Reply, false
	case errors.As(r.Err, &said):
		return delayed, said.Reply, false
	case unknown:
		return delayed, smtp.ReplyConnectionLost, true
	}
	return open, smtp.Reply{}, false
}

// troubleOf says what an error of a session means for the mail. No refusal of
// a session is permanent, whatever its code: it speaks about the session, and
// blocklists err.
func troubleOf(err error, at witness) trouble {
	var said *smtp.Error
	var tls *smtpclient.TLSError
	var auth *smtpclient.AuthError
	switch {
	case errors.As(err, &said) && said.RemoteMTA != "":
		return trouble{reply: said.Reply, at: at, cause: err}
	case errors.As(err, &said):
		return trouble{reply: said.Reply, final: said.Reply.Permanent(), cause: err}
	case errors.As(err, &tls) && tls.Untrusted():
		return trouble{reply: replyUntrusted, cause: err}
	case errors.As(err, &tls):
		return trouble{reply: smtp.ReplyTLSUnavailable, cause: err}
	case errors.As(err, &auth):
		return trouble{reply: replyAuth, cause: err}
	case at.mta == "":
		return trouble{reply: smtp.ReplyNoConnection, cause: err}
	}
	return trouble{reply: smtp.ReplyConnectionLost, cause: err}
}

// worst picks, of all that went wrong, what the open recipients are told:
// rather what a host said than what we conclude, rather a reason to wait than
// one to give up, and rather the last than the first.
func worst(all []trouble) trouble {
	best := trouble{reply: smtp.ReplyNoConnection}
	rank := func(t trouble) int {
		switch {
		case t.final:
			return 1
		case t.at.mta == "":
			return 2
		}
		return 3
	}
	top := 0
	for _, t := range all {
		if r := rank(t); r >= top {
			best, top = t, r
		}
	}
	return best
}

// settleOpen gives every recipient that is still open the same end.
func settleOpen(endings []ending, t trouble) {
	for i := range endings {
		e := &endings[i]
		if e.fate != open {
			continue
		}
		e.fate, e.reply, e.at = delayed, t.reply, t.at
		if t.final {
			e.fate = failed
		}
	}
}

// tooMany reports a recipient that was refused only because the transaction
// had enough: others were taken, and the next transaction may take it (RFC
// 5321 §4.5.3.1.10). A full mailbox has the same code and another status.
func tooMany(r smtpclient.RecipientResult) bool {
	var said *smtp.Error
	return errors.As(r.Err, &said) && said.Reply.Code == 452 && (said.Reply.Enhanced == "" || said.Reply.Enhanced == "5.3")
}
