package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// client is what is known of a device, or of an address: the registration, what
// would be answered, and the last attempts (S33-S36).
type client struct {
	Name    string           `json:"name"` // of the device, or the address
	Device  *registry.Device `json:"device,omitempty"`
	Answers []*opinion       `json:"answers,omitempty"`
	Last    []attempt        `json:"attempts"`
	// Troubles are what could not be found out.
	Troubles []string `json:"troubles,omitempty"`
	// Unseen says that there is nothing to show, and what that may mean.
	Unseen string `json:"unseen,omitempty"`
}

// attempt is one time that the client spoke to the relay.
type attempt struct {
	At       time.Time    `json:"at"`
	Address  netip.Addr   `json:"address"`
	Listener string       `json:"listener,omitempty"`
	Port     string       `json:"port,omitempty"`
	TLS      string       `json:"tls,omitempty"` // version and cipher; empty in clear
	Identity string       `json:"identity,omitempty"`
	Stage    string       `json:"stage"`
	Result   string       `json:"result"` // accepted, or the reply
	Rule     string       `json:"rule,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Ref      mail.Ref     `json:"ref,omitempty"`
	QueueID  mail.QueueID `json:"queue_id,omitempty"`
	Count    int          `json:"count"`
}

// evidenceAge is how long refusals are kept.
const evidenceAge = 30 * 24 * time.Hour

func (a *asking) explainAddress(ctx context.Context, progress io.Writer, addr netip.Addr, last int) (*explanation, error) {
	c := &client{Name: addr.String()}
	facts := &authz.Facts{Address: addr, NameDoubt: true}
	if d, ok := a.reg.ByAddress(addr); ok {
		c.Device = d
	}
	if err := a.ask(ctx, c, facts); err != nil {
		return nil, err
	}
	from := func(f *authz.Facts) bool { return f.Address.Unmap() == addr }
	return &explanation{client: c}, a.attempts(ctx, progress, c, last, from, nil)
}

func (a *asking) explainDevice(ctx context.Context, progress io.Writer, d *registry.Device, last int) (*explanation, error) {
	c := &client{Name: d.Name, Device: d}
	var identities []string
	for _, credential := range a.reg.Entries().Credentials {
		if credential.Device == d.Name {
			identities = append(identities, credential.Name)
		}
	}
	facts := &authz.Facts{NameDoubt: true}
	if len(d.Addresses) > 0 {
		facts.Address = d.Addresses[0].Range.Addr().Unmap()
	} else if len(identities) > 0 {
		facts.Identity = identities[0]
	}
	if err := a.ask(ctx, c, facts); err != nil {
		return nil, err
	}
	from := func(f *authz.Facts) bool {
		return slices.Contains(identities, f.Identity) || slices.ContainsFunc(d.Addresses, func(own registry.Address) bool {
			return f.Address.IsValid() && own.Range.Contains(f.Address.Unmap())
		})
	}
	return &explanation{client: c}, a.attempts(ctx, progress, c, last, from, identities)
}

// ask adds what would be answered now to mail for a hosted domain and for
// anywhere, with the null path, which the rules for senders let pass.
func (a *asking) ask(ctx context.Context, c *client, f *authz.Facts) error {
	f.At = time.Now().UTC()
	if l, err := a.listenerNamed(""); err == nil {
		f.Listener, f.Submission = l.Name, l.Mode != config.ModeRelay
	}
	if f.Identity != "" {
		f.Listener, f.Submission = "", true
	}
	if f.Address.IsValid() {
		if err := a.lookUp(ctx, f); err != nil {
			return err
		}
	}
	if domains := a.reg.Entries().Domains; len(domains) > 0 {
		f.Recipient = recipientAt(domains[0].Name)
		c.Answers = append(c.Answers, a.decide(f, "rcpt"))
	}
	f.Recipient = recipientAt("example.com")
	c.Answers = append(c.Answers, a.decide(f, "rcpt"))
	return nil
}

// attempts finds the last ones in the evidence of refusals and in the books.
func (a *asking) attempts(ctx context.Context, progress io.Writer, c *client, last int, from func(*authz.Facts) bool, identities []string) error {
	marks := make([][]byte, len(identities))
	for i, id := range identities {
		text, _ := json.Marshal(id)
		marks[i] = append([]byte(`"identity":`), text...)
	}
	matters := func(data []byte) bool {
		return from(&authz.Facts{Address: addressIn(data)}) || slices.ContainsFunc(marks, func(m []byte) bool { return bytes.Contains(data, m) })
	}
	err := eachRefusal(ctx, a.bus, progress, matters, func(r *event.Refusal) error {
		if from(&r.Facts) {
			c.Last = append(c.Last, a.refusedAttempt(r))
		}
		if len(c.Last) >= last {
			return errFound
		}
		return nil
	})
	if err != nil {
		return err
	}
	accepted, err := a.accepted(ctx, c.Name, last)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, books.ErrNotFound):
	case err != nil:
		c.Troubles = append(c.Troubles, "what was accepted is not shown: "+err.Error())
	}
	c.Last = append(c.Last, accepted...)
	slices.SortStableFunc(c.Last, func(x, y attempt) int { return cmp.Compare(y.At.UnixNano(), x.At.UnixNano()) })
	c.Last = c.Last[:min(len(c.Last), last)]
	if len(c.Last) == 0 || time.Since(c.Last[0].At) > evidenceAge {
		c.Unseen = a.unseen(c.Name)
	}
	return nil
}

// unseen says that nothing came, and what that may mean (S36).
func (a *asking) unseen(name string) string {
	var ports []string
	for _, l := range a.cfg.Listeners {
		ports = append(ports, a.portOf(l.Name)+" ("+l.Name+")")
	}
	return fmt.Sprintf("nothing seen from %s in the last 30 days: no mail, no refusal, no failed TLS, no connection. Look at the address, the gateway and the firewall of the device: it must reach %s on port %s",
		name, a.cfg.Relay.Hostname, strings.Join(ports, " or "))
}

var addressMark = []byte(`"address":"`)

// addressIn is the client's address in the record of a refusal: the first
// "address" is that of the facts, and what a client says of itself comes after.
func addressIn(data []byte) netip.Addr {
	_, rest, ok := bytes.Cut(data, addressMark)
	if !ok {
		return netip.Addr{}
	}
	text, _, _ := bytes.Cut(rest[:min(len(rest), 64)], []byte{'"'})
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

func (a *asking) refusedAttempt(r *event.Refusal) attempt {
	t := attemptOf(&r.Facts)
	t.At, t.Port, t.Stage, t.Rule, t.Reason, t.Ref, t.Count = r.At, a.portOf(t.Listener), r.Stage, r.Rule, r.Reason, r.Ref, max(r.Count, 1)
	if cause, ok := r.Cause(); ok && t.Reason == "" {
		t.Reason = cause.About
	}
	if t.Result = "closed"; !r.Reply.IsZero() {
		t.Result = r.Reply.String()
	}
	return t
}

func attemptOf(f *authz.Facts) attempt {
	return attempt{Address: f.Address, Listener: f.Listener, TLS: f.TLS, Identity: f.Identity, Count: 1}
}

// maxAccepted is how many accepted messages are asked for one by one.
const maxAccepted = 20

// accepted are the last messages of a device or an address, as the books have
// them.
func (a *asking) accepted(ctx context.Context, name string, last int) (out []attempt, err error) {
	client := books.Client(a.bus)
	t, err := client.Trace(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, m := range t.Messages[:min(len(t.Messages), last, maxAccepted)] {
		one := t
		if len(t.Messages) > 1 {
			if one, err = client.Trace(ctx, string(m.QueueID)); err != nil {
				return out, err
			}
		}
		for _, r := range one.Records {
			if r.Record.Message == nil {
				continue
			}
			at := attemptOf(&r.Record.Message.Facts)
			at.At, at.Port, at.Stage, at.QueueID = r.Record.Message.AcceptedAt, a.portOf(at.Listener), "data", m.QueueID
			at.Result, at.Rule, at.Reason = "accepted", r.Record.Message.Verdict.Rule, r.Record.Message.Verdict.Reason
			out = append(out, at)
			break
		}
	}
	return out, nil
}

func (c *client) write(w io.Writer) {
	d := c.Device
	switch {
	case d == nil:
		fmt.Fprintf(w, "%s is not registered\n", visible(c.Name))
	case d.Name != c.Name:
		fmt.Fprintf(w, "%s is ", visible(c.Name))
		fallthrough
	default:
		fmt.Fprintf(w, "%s, scope %s, from %s\n", visible(describeDevice(d)), d.Scope, d.Origin)
	}
	for i, o := range c.Answers {
		sign := "+ "
		if !o.passes() {
			sign = "x "
		}
		line(w, "now", sign+o.Recipient+": "+o.Reply)
		line(w, "because", reasonOf(o.Rule, o.About, o.Reason))
		if !o.passes() && (i == len(c.Answers)-1 || c.Answers[i+1].Rule != o.Rule) {
			lines(w, "nearest", o.Nearest)
			o.writeAdvice(w)
		}
	}
	lines(w, "trouble", c.Troubles)
	fmt.Fprintln(w)
	if c.Unseen != "" {
		fmt.Fprintln(w, visible(c.Unseen))
	}
	if len(c.Last) > 0 {
		writeAttempts(w, c.Last)
	}
}

// statusOf is what a table has room for of a reply: its code and status.
func statusOf(result string) string {
	words := strings.SplitN(result, " ", 3)
	return strings.Join(words[:min(len(words), 2)], " ")
}

// tlsOf is what there was of TLS where it was not agreed on.
func tlsOf(stage string) string {
	if stage == event.CauseHandshake {
		return "failed"
	}
	return "in clear"
}

// writeAttempts is a table of attempts, the newest first.
func writeAttempts(out io.Writer, list []attempt) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tADDRESS\tPORT\tTLS\tIDENTITY\tSTAGE\tRESULT\tREASON\tREFERENCE")
	for _, t := range list {
		port := strings.TrimSpace(t.Port + " " + t.Listener)
		reference := string(t.Ref) + string(t.QueueID)
		if t.Count > 1 {
			reference += fmt.Sprintf(" and %d more in that minute", t.Count-1)
		}
		cells := []string{
			t.At.Local().Format(time.DateTime), t.Address.String(), port, cmp.Or(t.TLS, tlsOf(t.Stage)), cmp.Or(t.Identity, "-"),
			t.Stage, statusOf(t.Result), strings.Trim(t.Rule+": "+t.Reason, ": "), reference,
		}
		for i, c := range cells {
			cells[i] = visible(c)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush()
}
