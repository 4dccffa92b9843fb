package check

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/loadtest/journal"
)

// fate is what the client knows about a pair.
type fate int

const (
	refused   fate = iota // 5yz, RCPT not 2yz, or no dot was sent
	late                  // 4yz to the dot
	ambiguous             // no answer to the dot
	accepted
)

func (f fate) String() string {
	return [...]string{"refused", "refused for now", "ambiguous", "accepted"}[f]
}

// message is one attempt to submit.
type message struct {
	token   string
	sent    journal.Submission // who, to whom, and the digest
	end     journal.Submission // how it ended; zero if the generator was killed
	byPath  map[string]*pair
	reached bool // the dot was sent
}

// pair is one recipient of one message, with all that is testified about it.
type pair struct {
	message   *message
	recipient journal.Recipient
	fate      fate
	rows      []journal.Settlement
	copies    []journal.Arrival
	failures  []journal.Arrival // reports with action failed
}

func (p *pair) acknowledged() int {
	n := 0
	for _, arrived := range p.copies {
		if arrived.Acknowledged {
			n++
		}
	}
	return n
}

// account sorts the testimonies by pair.
type account struct {
	messages    map[string]*message // by token
	byMessageID map[string]*message
	pairs       []*pair // in the order of the client's journal
	stray       []Violation
	otherRows   int
	otherQueued int
	delays      int
}

func newAccount(w Witnesses) (*account, error) {
	a := &account{messages: map[string]*message{}, byMessageID: map[string]*message{}}
	for _, line := range w.Client {
		if err := a.submission(line); err != nil {
			return nil, fmt.Errorf("%w: client: %w", journal.ErrUnusable, err)
		}
	}
	if len(a.messages) == 0 {
		return nil, fmt.Errorf("%w: %w", journal.ErrUnusable, errNoSubmissions)
	}
	for _, p := range a.pairs {
		p.fate = fateOf(p)
	}
	for i, row := range w.Ledger {
		if err := a.settlement(row); err != nil {
			return nil, fmt.Errorf("%w: ledger row %d: %w", journal.ErrUnusable, i+1, err)
		}
	}
	for i, line := range w.Sink {
		if err := a.arrival(line); err != nil {
			return nil, fmt.Errorf("%w: sink line %d: %w", journal.ErrUnusable, i+1, err)
		}
	}
	return a, nil
}

func (a *account) submission(line journal.Submission) error {
	if line.Token == "" {
		return fmt.Errorf("line without token")
	}
	m := a.messages[line.Token]
	switch line.Phase {
	case journal.Sent, journal.Refused, journal.Aborted:
		if m != nil {
			return fmt.Errorf("token %s: submitted twice", line.Token)
		}
		m = a.open(line)
		m.reached = line.Phase == journal.Sent
		if !m.reached {
			m.end = line
		}
	case journal.Reply, journal.Lost:
		if m == nil || !m.reached || m.end.Phase != "" {
			return fmt.Errorf("token %s: %s without its dot", line.Token, line.Phase)
		}
		m.end = line
	default:
		return fmt.Errorf("token %s: phase %q", line.Token, line.Phase)
	}
	return nil
}

func (a *account) open(line journal.Submission) *message {
	m := &message{token: line.Token, sent: line, byPath: map[string]*pair{}}
	a.messages[line.Token] = m
	if id := bare(line.MessageID); id != "" {
		a.byMessageID[id] = m
	}
	for _, recipient := range line.Recipients {
		p := &pair{message: m, recipient: recipient}
		m.byPath[path(recipient.Address)] = p
		a.pairs = append(a.pairs, p)
	}
	return m
}

func fateOf(p *pair) fate {
	m := p.message
	switch {
	case !m.reached || p.recipient.RcptReply/100 != 2:
		return refused
	case m.end.Phase != journal.Reply:
		return ambiguous
	case m.end.Code/100 == 2:
		return accepted
	case m.end.Code/100 == 4:
		return late
	}
	return refused
}

// settlement finds the pair of a ledger row by submission_id or Message-ID
// and recipient. A row of no message of ours is other mail.
func (a *account) settlement(row journal.Settlement) error {
	if row.Recipient == "" || row.State == "" {
		return fmt.Errorf("no recipient or no state")
	}
	m := a.find(row.SubmissionID, row.MessageID)
	if m == nil {
		a.otherRows++
		if row.State == journal.Queued {
			a.otherQueued++
		}
		return nil
	}
	p := m.byPath[path(row.Recipient)]
	if p == nil {
		a.astray(m.token, row.Recipient, "ledger has a recipient that was never submitted, as %s", row.State)
		return nil
	}
	p.rows = append(p.rows, row)
	return nil
}

func (a *account) arrival(line journal.Arrival) error {
	switch line.Kind {
	case journal.Copy:
		a.copied(line)
	case journal.DSN:
		a.reported(line)
	default:
		return fmt.Errorf("kind %q", line.Kind)
	}
	return nil
}

func (a *account) copied(line journal.Arrival) {
	m := a.find(line.Token, line.MessageID)
	if m == nil {
		a.astray(line.Token, strings.Join(line.Recipients, " "), "sink has a copy of a message that was never submitted, Message-ID %q", line.MessageID)
		return
	}
	for _, recipient := range line.Recipients {
		if p := m.byPath[path(recipient)]; p != nil {
			p.copies = append(p.copies, line)
		} else {
			a.astray(m.token, recipient, "sink has a copy for a recipient that was never submitted")
		}
	}
}

func (a *account) reported(line journal.Arrival) {
	m := a.messages[line.Token]
	var p *pair
	if m != nil {
		p = m.byPath[path(line.Recipient)]
	}
	switch {
	case p == nil:
		a.astray(line.Token, line.Recipient, "sink has a report (%s) about a recipient that was never submitted", line.Action)
	case len(line.Recipients) != 1 || path(line.Recipients[0]) != path(m.sent.Sender):
		a.astray(line.Token, line.Recipient, "report went to %s, the sender is <%s>", strings.Join(line.Recipients, " "), m.sent.Sender)
	case line.Action == "failed":
		p.failures = append(p.failures, line)
	default:
		a.delays++
	}
}

// find looks for a token and then for a Message-ID.
func (a *account) find(token, messageID string) *message {
	if m := a.messages[token]; m != nil {
		return m
	}
	return a.byMessageID[bare(messageID)]
}

func (a *account) astray(token, recipient, format string, values ...any) {
	a.stray = append(a.stray, Violation{Invariant: NoPhantoms, Token: token, Recipient: recipient, Detail: fmt.Sprintf(format, values...)})
}

// bare is a Message-ID without brackets, which not every witness keeps.
func bare(messageID string) string { return strings.Trim(strings.TrimSpace(messageID), "<>") }

// path is an address to compare: the domain has no case (RFC 5321 §2.4).
func path(address string) string {
	address = strings.Trim(address, "<>")
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	return address[:at] + strings.ToLower(address[at:])
}
