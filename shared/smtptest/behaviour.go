package smtptest

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Stage is a point of the conversation at which the MX can be told to do
// something else than what it should.
type Stage string

// The stages, in the order of a conversation. In the local part of a recipient
// rcpt, predata, content and data can be named, in that of a reverse-path mail;
// the others only in Options.At.
const (
	StageConnect  Stage = "connect"  // the greeting
	StageEhlo     Stage = "ehlo"     // EHLO, HELO and LHLO
	StageStartTLS Stage = "starttls" // the reply to STARTTLS
	StageTLS      Stage = "tls"      // in place of the handshake
	StageAuth     Stage = "auth"     // the final reply to AUTH
	StageMail     Stage = "mail"     // MAIL
	StageRcpt     Stage = "rcpt"     // RCPT
	StagePredata  Stage = "predata"  // DATA, or the first BDAT
	StageContent  Stage = "content"  // after the first octets of the content
	StageData     Stage = "data"     // after the dot, or after BDAT LAST
	StageRset     Stage = "rset"     // RSET
	StageQuit     Stage = "quit"     // QUIT
)

// known reports a stage that may be named.
func (s Stage) known() bool {
	switch s {
	case StageConnect, StageEhlo, StageStartTLS, StageTLS, StageAuth, StageMail,
		StageRcpt, StagePredata, StageContent, StageData, StageRset, StageQuit:
		return true
	}
	return false
}

// MaxDelay bounds the durations of the grammar.
const MaxDelay = time.Hour

// maxAttempts bounds the number of counters kept for once-, twice- and first-.
const maxAttempts = 1 << 20

// Behaviour is what the MX was told to do at one stage. The zero value is to
// do what an MX should.
type Behaviour struct {
	// Stage is where it applies.
	Stage Stage
	// First limits it to the first so many attempts; 0 is always.
	First int
	// Reply is given instead of the proper one; zero is the proper one.
	Reply smtp.Reply
	// Drop closes the connection without a reply.
	Drop bool
	// Pause delays the reply of this stage only.
	Pause time.Duration
	// Tarpit delays this reply and those that follow.
	Tarpit time.Duration
	// Trickle delays every octet of this reply and of those that follow.
	Trickle time.Duration
}

// ForRecipient reads the local part of a recipient. What is not in the grammar
// gives the zero Behaviour: deliver.
func ForRecipient(local string) Behaviour {
	b, ok := parseBehaviour(local, StageRcpt)
	switch b.Stage {
	case StageRcpt, StagePredata, StageContent, StageData:
	default:
		ok = false
	}
	if !ok {
		return Behaviour{}
	}
	return b
}

// ForSender reads the local part of a reverse-path. Only one that names the
// stage mail has a behaviour, so that an ordinary sender never has one by chance.
func ForSender(local string) Behaviour {
	b, ok := parseBehaviour(local, "")
	if !ok || b.Stage != StageMail {
		return Behaviour{}
	}
	return b
}

// parseBehaviour reads [stage-][count-]action[+detail], stage and count in
// either order and at most once each.
func parseBehaviour(local string, stage Stage) (Behaviour, bool) {
	word, _, _ := strings.Cut(strings.ToLower(local), "+")
	b := Behaviour{}
	for {
		if rest, s, ok := cutStage(word); ok && b.Stage == "" {
			word, b.Stage = rest, s
		} else if rest, n, ok := cutCount(word); ok && b.First == 0 {
			word, b.First = rest, n
		} else {
			break
		}
	}
	if !b.parseAction(word) {
		return Behaviour{}, false
	}
	if b.Stage == "" {
		b.Stage = stage
	}
	return b, true
}

func cutStage(word string) (rest string, s Stage, ok bool) {
	head, rest, ok := strings.Cut(word, "-")
	return rest, Stage(head), ok && Stage(head).known()
}

func cutCount(word string) (rest string, n int, ok bool) {
	first, rest, _ := strings.Cut(word, "-")
	switch first {
	case "once":
		return rest, 1, true
	case "twice":
		return rest, 2, true
	case "first":
		digits, rest, _ := strings.Cut(rest, "-")
		n, err := strconv.ParseUint(digits, 10, 16)
		return rest, int(n), err == nil && n > 0
	}
	return word, 0, false
}

// parseAction reads the action itself. The words that name their stage keep it
// only where none was named before.
func (b *Behaviour) parseAction(word string) bool {
	switch word {
	case "drop":
		b.Drop = true
		return true
	case "drop-data":
		b.Drop = true
		return b.at(StageContent)
	case "drop-after-dot":
		b.Drop = true
		return b.at(StageData)
	case "greylist":
		if b.First == 0 {
			b.First = 1
		}
		b.Reply = smtp.Reply{Code: 451, Enhanced: "7.1", Text: "Greylisted, try again later"}
		return true
	}
	var delay *time.Duration
	switch kind, _, _ := strings.Cut(word, "-"); kind {
	case "tarpit":
		delay = &b.Tarpit
	case "trickle":
		delay = &b.Trickle
	case "pause":
		delay = &b.Pause
	default:
		return b.parseReply(word)
	}
	_, duration, _ := strings.Cut(word, "-")
	d, err := time.ParseDuration(duration)
	*delay = d
	return err == nil && d > 0 && d <= MaxDelay
}

func (b *Behaviour) at(s Stage) bool {
	if b.Stage != "" {
		return false
	}
	b.Stage = s
	return true
}

// parseReply reads CODE or CODE-E.S.D.
func (b *Behaviour) parseReply(word string) bool {
	digits, status, given := strings.Cut(word, "-")
	code, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 3 || !replyCode(code) {
		return false
	}
	b.Reply = smtp.ParseReply(code, []string{status})
	if given && (b.Reply.Enhanced == "" || b.Reply.Text != "") {
		return false
	}
	b.Reply.Text = "As the address asks"
	return true
}

// replyCode reports the codes that make sense as an answer in the wrong place
// (RFC 5321 §4.2.1).
func replyCode(code int) bool {
	switch code / 10 {
	case 25, 40, 41, 42, 43, 44, 45, 50, 51, 52, 53, 54, 55:
		return true
	}
	return code == 354
}

// attempts counts how often something was asked for.
type attempts struct {
	mu   sync.Mutex
	seen map[string]int
}

// within counts one attempt under key and reports that it is one of the first n.
func (a *attempts) within(n int, key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil || len(a.seen) >= maxAttempts {
		a.seen = make(map[string]int)
	}
	a.seen[key]++
	return a.seen[key] <= n
}
