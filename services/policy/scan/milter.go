package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	milter "github.com/emersion/go-milter"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// mail filter: one session for each message, as the protocol has it for one SMTP
// session with one transaction.
type filter struct {
	network, address string
	hostname         string
	reject           authz.Outcome
}

func newMilter(at, hostname string, reject authz.Outcome) (*filter, error) {
	network, address, err := config.MilterAddress(at)
	if err != nil {
		return nil, fmt.Errorf("read scan.milter: %w", err)
	}
	return &filter{network, address, hostname, reject}, nil
}

// ask tells the milter of the transaction step by step, until it has decided.
func (m *filter) ask(ctx context.Context, a *event.Accepted, content io.Reader) (f Finding, err error) {
	dial := &dialer{ctx: ctx}
	defer dial.close()
	// Changed fields are offered for the sake of milters that insist on it, and
	// not made.
	s, err := milter.NewClientWithOptions(m.network, m.address, milter.ClientOptions{
		Dialer: dial, ActionMask: milter.OptAddHeader | milter.OptChangeHeader | milter.OptQuarantine,
	}).Session()
	if err != nil {
		return f, inTime(ctx, err)
	}
	defer s.Close()
	t := &transaction{filter: m, session: s, message: a}
	act, err := t.envelope()
	if err == nil && goesOn(act) {
		act, err = t.content(content)
	}
	var changes []milter.ModifyAction
	if err == nil && goesOn(act) {
		changes, act, err = s.End()
	}
	if err != nil {
		return f, inTime(ctx, err)
	}
	return m.finding(act, changes), nil
}

// inTime is the error of the deadline, where that is what ended the session.
func inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func goesOn(act *milter.Action) bool { return act.Code == milter.ActContinue }

// transaction is one message as the milter hears of it.
type transaction struct {
	*filter
	session *milter.ClientSession
	message *event.Accepted
}

// steps runs one step after the other while the milter wants to go on.
func steps(all ...func() (*milter.Action, error)) (act *milter.Action, err error) {
	for _, step := range all {
		if act, err = step(); err != nil || !goesOn(act) {
			return act, err
		}
	}
	return act, nil
}

// envelope tells of the connection and the envelope.
func (t *transaction) envelope() (*milter.Action, error) {
	s, a := t.session, t.message
	return steps(t.connect,
		func() (*milter.Action, error) { return s.Helo(text(a.Facts.Helo)) },
		func() (*milter.Action, error) {
			macros := []string{"i", string(a.QueueID), "{mail_addr}", text(a.Env.ReversePath.String())}
			if a.Facts.Identity != "" {
				macros = append(macros, "{auth_authen}", text(a.Facts.Identity))
			}
			if err := s.Macros(milter.CodeMail, macros...); err != nil {
				return nil, err
			}
			return s.Mail(text(a.Env.ReversePath.String()), nil)
		}, t.recipients)
}

func (t *transaction) connect() (*milter.Action, error) {
	f := &t.message.Facts
	if err := t.session.Macros(milter.CodeConn, "j", t.hostname, "{daemon_name}", text(f.Listener)); err != nil {
		return nil, err
	}
	name, family, address := f.Name, milter.FamilyUnknown, ""
	if f.Address.IsValid() {
		a := f.Address.Unmap().WithZone("")
		family, address = milter.FamilyInet, a.String()
		if a.Is6() {
			family = milter.FamilyInet6
		}
		if name == "" {
			name = "[" + address + "]"
		}
	}
	if name == "" {
		name = "localhost"
	}
	return t.session.Conn(text(name), family, 0, address)
}

// recipients tells of all of them. A milter may turn some down; the message is
// one to us, and then turned down as a whole.
func (t *transaction) recipients() (act *milter.Action, err error) {
	for i := range t.message.Env.Recipients {
		to := text(t.message.Env.Recipients[i].Address.String())
		if err := t.session.Macros(milter.CodeRcpt, "{rcpt_addr}", to); err != nil {
			return nil, err
		}
		if act, err = t.session.Rcpt(to, nil); err != nil || !goesOn(act) {
			return act, err
		}
	}
	return act, nil
}

// content tells of the header, then of the body in chunks.
func (t *transaction) content(in io.Reader) (*milter.Action, error) {
	start, header, at, err := mail.ReadHeader(in, 2*mail.MaxHeader)
	if err != nil {
		return nil, err
	}
	for f := range header.Fields() {
		// The value goes as it is, with its folding; lines end in LF there.
		_, value, _ := strings.Cut(string(f.Raw), ":")
		value = strings.TrimSuffix(strings.ReplaceAll(value, "\r\n", "\n"), "\n")
		if !t.session.ProtocolOption(milter.OptHeaderLeadingSpace) {
			value = strings.TrimPrefix(value, " ")
		}
		act, err := t.session.HeaderField(f.Name, text(value))
		if err != nil || !goesOn(act) {
			return act, err
		}
	}
	act, err := t.session.HeaderEnd()
	if err != nil || !goesOn(act) {
		return act, err
	}
	return t.body(io.MultiReader(strings.NewReader(string(start[at:])), in))
}

func (t *transaction) body(in io.Reader) (*milter.Action, error) {
	chunk := make([]byte, milter.MaxBodyChunk)
	for {
		n, err := io.ReadFull(in, chunk)
		if n > 0 {
			act, failed := t.session.BodyChunk(chunk[:n])
			if failed != nil || !goesOn(act) {
				return act, failed
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return &milter.Action{Code: milter.ActContinue}, nil
		case err != nil:
			return nil, err
		}
	}
}

// text ends at a NUL, as the protocol would have it.
func text(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// finding is what the last action and the changes mean.
func (m *filter) finding(act *milter.Action, changes []milter.ModifyAction) Finding {
	f := Finding{Outcome: authz.Admit, Scanner: "accept"}
	switch {
	case act.Code == milter.ActReject, act.Code == milter.ActReplyCode && act.SMTPCode >= 500:
		f.Outcome, f.Scanner = m.reject, "reject"
	case act.Code == milter.ActTempFail, act.Code == milter.ActReplyCode:
		f.Outcome, f.Scanner = authz.Later, "tempfail"
	case act.Code == milter.ActDiscard:
		f.Outcome, f.Scanner = authz.Hold, "discard"
	}
	if act.Code == milter.ActReplyCode {
		f.Scanner = fmt.Sprintf("%d %s", act.SMTPCode, act.SMTPText)
	}
	fields := 0
	for i := range changes {
		c := &changes[i]
		switch c.Code {
		case milter.ActAddHeader, milter.ActInsertHeader:
			if added := field(c.HeaderName, c.HeaderValue); added != "" && fields < maxFields {
				f.Fields += added
				fields++
			}
		case milter.ActQuarantine:
			if f.Outcome == authz.Admit {
				f.Outcome, f.Scanner = authz.Hold, "quarantine"
			}
			f.Scanner += ", " + c.Reason
		}
	}
	return f
}
