package generate

import (
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// message is one attempt, ready for the wire.
type message struct {
	token, retryOf, messageID string
	sender                    string
	recipients                []journal.Recipient
	bodySHA256                string
	// The content with dot-stuffing and final dot, in three parts; the
	// middle one is shared by all messages.
	header, filler, tail []byte
	octets               int
}

// plan makes message number i from the seed, so that neither the number of
// connections nor their order changes what is sent.
type plan struct {
	config Config
	filler filler
}

// room is what header and last line may take of a message; the filler takes
// the rest. The last line makes up the difference, so that the size is exact.
const (
	room    = 1 << 10
	minTail = 64
)

func newPlan(c Config) (*plan, error) {
	p := &plan{config: c, filler: newFiller(max(0, c.Size-room), c.Seed)}
	for _, domain := range c.Domains {
		probe := c
		probe.Domains = []string{domain}
		// The last message and attempt have the longest token.
		worst := (&plan{config: probe, filler: p.filler}).envelope(c.Messages-1, c.Retries)
		left := c.Size - len(p.filler.text) - len(headerOf(worst, time.Unix(0, 0)))
		if left < minTail {
			return nil, fmt.Errorf("size: %d octets are too few, the header needs %d more", c.Size, minTail-left)
		}
		for _, recipient := range worst.recipients {
			// RFC 5321 §4.5.3.1.1
			if local, _, _ := strings.Cut(recipient.Address, "@"); len(local) > 64 {
				return nil, fmt.Errorf("run name: local part %q is longer than 64 octets", local)
			}
		}
	}
	return p, nil
}

// message makes attempt number attempt (0 is the first) of message i.
func (p *plan) message(i, attempt int, now time.Time) *message {
	m := p.envelope(i, attempt)
	m.header = headerOf(m, now)
	m.filler = p.filler.wire
	tail := tailLine(m.token, p.config.Size-len(m.header)-len(p.filler.text))
	m.bodySHA256 = p.filler.digestWith(tail)
	m.tail = append(tail, ".\r\n"...)
	m.octets = p.config.Size
	return m
}

func (p *plan) envelope(i, attempt int) *message {
	c := p.config
	first := fmt.Sprintf("%s-%07d", c.Run, i)
	m := &message{token: first, sender: c.Sender, recipients: make([]journal.Recipient, c.Recipients)}
	if attempt > 0 {
		m.retryOf = first
		m.token = fmt.Sprintf("%s-r%d", first, attempt)
	}
	m.messageID = "<" + m.token + "@load.test>"
	dice := rand.New(rand.NewPCG(c.Seed, uint64(i)))
	bad := 0
	for n := range m.recipients {
		domain := c.Domains[dice.IntN(len(c.Domains))]
		local := fmt.Sprintf("u%d+%s", n+1, m.token)
		isBad := dice.Float64() < c.Bad
		if isBad {
			if bad++; bad == 1 {
				local = "550+" + m.token
			} else {
				local = "550+" + local
			}
		}
		m.recipients[n] = journal.Recipient{Address: local + "@" + domain, Bad: isBad}
	}
	return m
}

// headerOf writes the header section and the empty line after it. To names
// one recipient only, as the envelope names the others.
func headerOf(m *message, now time.Time) []byte {
	from := m.sender
	if from == "" {
		from = "device@load.test"
	}
	var b strings.Builder
	for _, field := range [][2]string{
		{"From", "Load test <" + from + ">"},
		{"To", "<" + m.recipients[0].Address + ">"},
		{"Subject", "Scan " + m.token},
		{"Date", now.Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", m.messageID},
		{"X-Ledger", m.token},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=us-ascii"},
	} {
		b.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// tailLine is the last line: the token, so that no two bodies are alike, and
// padding up to size octets with its CRLF.
func tailLine(token string, size int) []byte {
	line := make([]byte, 0, size+len(".\r\n"))
	line = append(line, "End of "+token+" "...)
	for len(line) < size-2 {
		line = append(line, '=')
	}
	return append(line[:size-2], "\r\n"...)
}

// filler is the part of the body that all messages share: hashing it once
// leaves the processor to the relay under test.
type filler struct {
	text  []byte // as a mailbox sees it
	wire  []byte // with dot-stuffing
	state hash.Cloner
}

func (f filler) digestWith(tail []byte) string {
	// The clone of a SHA-256 cannot fail; its error is for other hashes.
	sum, err := f.state.Clone()
	if err != nil {
		return "none: " + err.Error()
	}
	sum.Write(tail)
	return hex.EncodeToString(sum.Sum(nil))
}

// newRun is a name that no other run has: 40 random bits.
func newRun() string {
	const letters = "abcdefghjkmnpqrstuvwxyz123456789"
	raw := make([]byte, 8)
	crand.Read(raw)
	for i, b := range raw {
		raw[i] = letters[int(b)%len(letters)]
	}
	return string(raw)
}
