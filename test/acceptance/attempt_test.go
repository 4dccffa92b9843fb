package acceptance

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/smtptest"
)

// attempt is one message that a client tries to send.
type attempt struct {
	name string
	// from is the client's address; empty: one of the campus, unregistered.
	from string
	// on is the listener; empty: the one of mode relay. login is the
	// credential, if it authenticates, password its secret unless another.
	on, login, password string
	helo                string // the whole command; EHLO unless said
	tls                 bool
	// mail and rcpt are the paths as written; header is the From field.
	mail, rcpt, header string
	// want begins the reply that decides it, without the reference.
	want string
	// at is where it must arrive if it is accepted; empty: outside.
	at string
}

const (
	inet      = "<someone@inet.test>"
	inside    = "<anna@campus.test>"
	byPrinter = "<prn@campus.test>"
)

// play tries each on its own, and sees to it that what was accepted arrives at
// the right mail exchanger.
func (r *relay) play(t *testing.T, attempts ...attempt) {
	t.Helper()
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			t.Helper()
			a.complete(r)
			token := r.token()
			if got := r.try(t, a, token); !strings.HasPrefix(got, a.want) {
				t.Fatalf("from %s, %s to %s: got %q, want %q", a.from, a.mail, a.rcpt, got, a.want)
			}
			if !strings.HasPrefix(a.want, "250") {
				return
			}
			if d := r.arrived(t, token); exchanger(d) != a.at || len(d.Recipients) != 1 || d.Recipients[0].Address.Bracketed() != a.rcpt {
				t.Errorf("it arrived at %s for %v, want %s for %s", exchanger(d), recipients(d), a.at, a.rcpt)
			}
		})
	}
}

func recipients(d smtptest.Delivery) (out []string) {
	for _, rcpt := range d.Recipients {
		out = append(out, rcpt.Address.Bracketed())
	}
	return out
}

func (a *attempt) complete(r *relay) {
	a.from = cmp.Or(a.from, r.stranger())
	a.on = cmp.Or(a.on, r.SMTP)
	a.mail, a.rcpt = cmp.Or(a.mail, byPrinter), cmp.Or(a.rcpt, inet)
	a.helo = cmp.Or(a.helo, hello)
	a.header = cmp.Or(a.header, "From: "+a.mail)
	a.at = cmp.Or(a.at, outsideMX)
	if a.login != "" {
		a.password = cmp.Or(a.password, secretOf(a.login))
	}
}

// try sends a message. The result is the first refusal, or the final reply,
// without reference and link.
func (r *relay) try(t testing.TB, a attempt, token string) string {
	t.Helper()
	s := r.dial(t, a.on, a.from)
	defer s.close()
	if a.login != "" {
		if got := s.login(a.login, a.password); got.code != 235 {
			return got.String()
		}
	} else {
		if got := s.ask(a.helo); got.code != 250 {
			return got.String()
		}
		if a.tls {
			s.startTLS()
			s.must(a.helo, "250")
		}
	}
	return s.send(a.mail, a.header, token, a.rcpt).String()
}

// send is a whole transaction. The result is the first refusal, or the final
// reply.
func (s *session) send(from, header, token string, to ...string) answer {
	s.t.Helper()
	if got := s.ask("MAIL FROM:" + from); got.code != 250 {
		return got
	}
	for _, rcpt := range to {
		if got := s.ask("RCPT TO:" + rcpt); got.code != 250 {
			return got
		}
	}
	s.must("DATA", "354")
	if header != "" {
		header += "\r\n"
	}
	s.write(header + "X-Token: " + token + "\r\nSubject: " + token + "\r\n\r\nScanned page.\r\n.\r\n")
	return s.read()
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.code, told(a.text)) }
