package delivery

import (
	crypto "crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/smtpclient"
)

func remote(code int, enhanced smtp.Enhanced) *smtp.Error {
	return &smtp.Error{Reply: smtp.Reply{Code: code, Enhanced: enhanced, Text: "said"}, RemoteMTA: "mx.test"}
}

func TestVerdict(t *testing.T) {
	broken := fmt.Errorf("read: %w", io.EOF)
	for _, tt := range []struct {
		name    string
		err     error
		unknown bool
		want    fate
		code    int
		doubt   bool
	}{
		{"taken", nil, false, delivered, 250, false},
		{"refused", remote(550, "1.1"), false, failed, 550, false},
		{"refused by the client, for its size", smtp.Refuse(smtp.ReplyTooBig, nil), false, failed, 552, false},
		{"greylisted", remote(451, "7.1"), false, delayed, 451, false},
		{"the host closes", remote(421, "3.2"), false, open, 421, false},
		{"the network broke before the dot", broken, false, open, 0, false},
		{"the network broke after the dot", broken, true, delayed, 451, true},
		{"refused while another's reply was lost", remote(550, "1.1"), true, failed, 550, false},
	} {
		r := smtpclient.RecipientResult{Err: tt.err}
		if tt.err == nil {
			r.Reply = smtp.Reply{Code: 250}
		}
		f, reply, doubt := verdict(r, tt.unknown)
		if f != tt.want || reply.Code != tt.code || doubt != tt.doubt {
			t.Errorf("%s: %v %v %v", tt.name, f, reply, doubt)
		}
	}
}

func TestWorst(t *testing.T) {
	at := witness{mta: "mx.test [192.0.2.1]"}
	greeting := troubleOf(remote(554, "7.1"), at)
	refused := troubleOf(errors.New("connection refused"), witness{})
	tls := troubleOf(&smtpclient.TLSError{}, at)
	untrusted := troubleOf(&smtpclient.TLSError{Err: fmt.Errorf("handshake: %w", &crypto.CertificateVerificationError{Err: errors.New("expired")})}, at)
	if untrusted.reply != replyUntrusted || tls.reply == replyUntrusted {
		t.Errorf("TLS not offered is %v, an invalid certificate %v", tls.reply, untrusted.reply)
	}
	null := troubleOf(smtp.Refuse(smtp.ReplyNullMX, nil), witness{})
	dns := troubleOf(smtp.Refuse(smtp.ReplyDNSTrouble, nil), witness{})
	for _, tt := range []struct {
		name string
		all  []trouble
		code int
		want fate
	}{
		{"nothing known", nil, 451, delayed},
		{"a refused session delays, whatever its code", []trouble{greeting}, 554, delayed},
		{"a host's word before our conclusion", []trouble{greeting, refused}, 554, delayed},
		{"a definite no", []trouble{null}, 556, failed},
		{"a no and a maybe", []trouble{refused, null}, 451, delayed},
		{"a maybe after a no", []trouble{null, dns}, 451, delayed},
		{"the last of equals", []trouble{refused, tls}, 451, delayed},
		{"bad credentials", []trouble{troubleOf(&smtpclient.AuthError{Reply: smtp.Reply{Code: 535}}, at)}, 451, delayed},
	} {
		e := []ending{{}, {fate: delivered}}
		settleOpen(e, worst(tt.all))
		if e[0].fate != tt.want || e[0].reply.Code != tt.code || e[1].fate != delivered {
			t.Errorf("%s: %v %v", tt.name, e[0].fate, e[0].reply)
		}
	}
	if w := worst([]trouble{refused, tls}); w.reply != smtp.ReplyTLSUnavailable {
		t.Errorf("the last of equals: %v", w.reply)
	}
}

func TestTooMany(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {remote(452, "5.3"), true}, {remote(452, ""), true},
		{remote(452, "2.2"), false}, {remote(451, "5.3"), false}, {remote(552, "5.3"), false},
	} {
		if got := tooMany(smtpclient.RecipientResult{Err: tt.err}); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}

func path(t testing.TB, s string) smtp.ForwardPath {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return smtp.ForwardPath{Address: a}
}

func TestConclude(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	s := schedule{retry: []config.Duration{config.Duration(10 * time.Minute)}, lifetime: config.Defaults().Delivery.Lifetime}
	at := witness{"mx.test [192.0.2.1]", "TLS1.3 X verified"}
	rcpt := func(local string) mail.Recipient { return mail.Recipient{Address: path(t, local+"@x.test")} }
	endings := []ending{
		{Recipient: rcpt("ok"), fate: delivered, reply: smtp.Reply{Code: 250}, at: at, doubt: true},
		{Recipient: rcpt("no"), fate: failed, reply: smtp.Reply{Code: 550}, at: at},
		{Recipient: rcpt("later"), fate: delayed, reply: smtp.Reply{Code: 450, Text: strings.Repeat("x", 5000)}, at: at},
		{Recipient: rcpt("lost"), fate: delayed, reply: smtp.ReplyConnectionLost, doubt: true},
	}
	job := &event.Job{ID: "Q-0", QueueID: "Q", AcceptedAt: now.Add(-time.Hour), Class: mail.ClassAlert, Destination: "x.test", Attempt: 2,
		Diagnosed: []event.RecipientRecord{{Address: rcpt("lost").Address, Reply: smtp.Reply{Code: 452}, RemoteMTA: "old"}}}
	got := conclude(job, endings, conclusion{now: now, chance: .5, run: "r", schedule: s})

	if len(got.records) != 3 || len(got.failures) != 1 || got.later == nil || len(got.done) != 2 {
		t.Fatalf("%+v", got)
	}
	ok, no, later := got.records[0], got.records[1], got.records[2]
	if ok.Outcome != event.Delivered || !ok.Recipients[0].PossibleDuplicate || ok.Attempt != 3 || ok.key != "Q-0/3/r" {
		t.Errorf("delivered: %+v", ok)
	}
	if no.Outcome != event.Failed || no.Recipients[0].PossibleDuplicate || no.Recipients[0].RemoteMTA != at.mta {
		t.Errorf("failed: %+v", no)
	}
	if later.Outcome != event.Delayed || !later.Next.Equal(now.Add(10*time.Minute)) || len(later.Recipients[0].Reply.Text) != textMost {
		t.Errorf("delayed: %+v", later)
	}
	if f := got.failures[0]; f.Kind != event.KindFailed || len(f.Env.Recipients) != 1 || f.Env.Recipients[0].Address != rcpt("no").Address {
		t.Errorf("failure: %+v", f)
	}
	j := got.later
	if j.Attempt != 3 || len(j.Env.Recipients) != 2 || len(j.Doubt) != 1 || j.Doubt[0] != rcpt("lost").Address ||
		!strings.HasPrefix(j.LastReply, at.mta+": 450") || j.Diagnosed[1].RemoteMTA != "old" {
		t.Errorf("later: %+v", j)
	}

	job.AcceptedAt = now.Add(-24 * time.Hour)
	got = conclude(job, endings, conclusion{now: now, schedule: s})
	if len(got.records) != 3 || len(got.failures) != 2 || got.later != nil || len(got.done) != 4 {
		t.Fatalf("expired: %+v", got)
	}
	f := got.failures[1]
	if f.Kind != event.KindExpired || len(f.Recipients) != 2 || f.Recipients[0].Reply.Code != 450 || f.Recipients[1].Reply.Code != 452 {
		t.Errorf("expired: %+v", f)
	}
	if r := got.records[2]; r.Outcome != event.Failed || r.Reason != reasonExpired || r.key == got.records[1].key {
		t.Errorf("expired: %+v", r)
	}
}
