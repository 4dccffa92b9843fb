package delivery

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
)

const zone = `
	x.test       MX 10 mx1.test
	two.test     MX 10 mx2.test
	two.test     MX 20 mx1.test
	other.test   MX 10 mx3.test
	null.test    MX 0 .
	self.test    MX 10 relay.campus.test
	mx1.test     A 127.0.0.1
	mx2.test     A 127.0.0.2
	mx3.test     A 127.0.0.3
`

func TestDelivered(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("a@x.test", "b@x.test"))
	got := deliveries(t, server, 1)[0]
	if string(got.Content) != "X-Prepended: yes\r\n"+body || len(got.Recipients) != 2 || got.ReversePath.String() != "prn@campus.test" {
		t.Errorf("%q to %v", got.Content, got.Recipients)
	}
	rec := r.await(j, event.Delivered)
	if len(rec.Recipients) != 2 || rec.Attempt != 1 {
		t.Fatalf("%+v", rec)
	}
	one := rec.Recipients[0]
	if one.RemoteMTA != "mx1.test [127.0.0.1]" || one.Reply.Code != 250 || one.PossibleDuplicate ||
		!strings.HasPrefix(one.TLS, "TLS1.3 TLS_") || !strings.HasSuffix(one.TLS, " unverified") {
		t.Errorf("%+v", one)
	}
	r.drained()
	if n := r.stored(queue.StreamReport); n != 0 {
		t.Errorf("%d reports", n)
	}
}

func TestNextMX(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		first smtptest.Options
		down  bool
	}{
		{name: "refuses connections", down: true},
		{name: "421 in the greeting", first: smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageConnect: "421"}}},
		{name: "554 in the greeting", first: smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageConnect: "554"}}},
		{name: "closes at EHLO", first: smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageEhlo: "drop"}}},
		{name: "421 at MAIL", first: smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageMail: "421"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			second := mx(t, 1, 0, smtptest.Options{})
			if !tt.down {
				mx(t, 2, second.Port(), tt.first)
			}
			r := start(t, options{zone: zone, port: second.Port()})
			j := r.submit(r.job("a@two.test"))
			deliveries(t, second, 1)
			if rec := r.await(j, event.Delivered); rec.Attempt != 1 || rec.Recipients[0].RemoteMTA != "mx1.test [127.0.0.1]" {
				t.Errorf("%+v", rec)
			}
		})
	}
}

func TestNoNextMXAfterAVerdict(t *testing.T) {
	t.Parallel()
	second := mx(t, 1, 0, smtptest.Options{})
	first := mx(t, 2, second.Port(), smtptest.Options{})
	r := start(t, options{zone: zone, port: second.Port(), config: func(c *config.Config) {
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
	}})
	j := r.submit(r.job("550-5.1.1@two.test", "450-4.2.1@two.test"))
	failed, delayed := r.await(j, event.Failed), r.await(j, event.Delayed)
	if failed.Recipients[0].Reply.Status() != "5.1.1" || delayed.Recipients[0].Reply.Status() != "4.2.1" {
		t.Errorf("%+v %+v", failed, delayed)
	}
	if n := second.Counts().Connections; n != 0 || first.Counts().Connections != 1 {
		t.Errorf("%d connections to the next MX", n)
	}
}

func TestDefiniteAnswersOfTheDNS(t *testing.T) {
	t.Parallel()
	r := start(t, options{zone: zone, port: 25})
	for destination, status := range map[string]string{"null.test": "5.1.10", "no.such.test": "5.1.2", "self.test": "5.4.6"} {
		j := r.submit(r.job("a@" + destination))
		rec := r.await(j, event.Failed)
		if one := rec.Recipients[0]; one.Reply.Status() != status || one.RemoteMTA != "" {
			t.Errorf("%s: %+v", destination, one)
		}
		r.drained()
		if f := r.failure(event.KindFailed); f.QueueID != j.QueueID || f.ID != j.ID+"/1" || len(f.Recipients) != 1 || len(f.Env.Recipients) != 1 {
			t.Errorf("%s: %+v", destination, f)
		}
	}
}

func TestTroubleWithTheDNSDelays(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	r.dns.Fail("x.test", dnstest.ServFail)
	j := r.submit(r.job("a@x.test"))
	if rec := r.await(j, event.Delayed); rec.Recipients[0].Reply.Status() != "4.4.3" {
		t.Errorf("%+v", rec)
	}
}

func TestDelayedComesAgain(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("greylist@x.test"))
	delayed := r.await(j, event.Delayed)
	if d := delayed.Next.Sub(delayed.At); d < 800*time.Millisecond || d > 1200*time.Millisecond || delayed.Attempt != 1 {
		t.Errorf("next in %v: %+v", d, delayed)
	}
	rec := r.await(j, event.Delivered)
	if rec.Attempt != 2 || rec.Recipients[0].PossibleDuplicate {
		t.Errorf("%+v", rec)
	}
	r.drained()
	if n := len(deliveries(t, server, 1)); n != 1 {
		t.Errorf("%d copies", n)
	}
}

func TestMixedReplies(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("a@x.test", "550-5.1.1@x.test", "once-450@x.test", "b@x.test"))
	if rec := r.await(j, event.Delivered); len(rec.Recipients) != 2 {
		t.Errorf("%+v", rec)
	}
	if rec := r.await(j, event.Failed); len(rec.Recipients) != 1 || rec.Recipients[0].Address.Local != "550-5.1.1" {
		t.Errorf("%+v", rec)
	}
	if rec := r.await(j, event.Delayed); len(rec.Recipients) != 1 || rec.Recipients[0].Address.Local != "once-450" {
		t.Errorf("%+v", rec)
	}
	if rec := r.await(j, event.Delivered); len(rec.Recipients) != 1 || rec.Attempt != 2 {
		t.Errorf("%+v", rec)
	}
	r.drained()
	got := deliveries(t, server, 2)
	if len(got) != 2 || len(got[0].Recipients) != 2 || len(got[1].Recipients) != 1 {
		t.Errorf("%d messages", len(got))
	}
	if f := r.failure(event.KindFailed); len(f.Recipients) != 1 {
		t.Errorf("%+v", f)
	}
}

func TestTooManyRecipientsGoInTheNextTransaction(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{MaxRecipients: 2})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test"))
	if rec := r.await(j, event.Delivered); len(rec.Recipients) != 5 || rec.Attempt != 1 {
		t.Errorf("%+v", rec)
	}
	if n, c := len(deliveries(t, server, 3)), server.Counts().Connections; n != 3 || c != 1 {
		t.Errorf("%d transactions over %d connections", n, c)
	}
}

func TestTransactionsOfAHundred(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{MaxTransactions: 1})
	r := start(t, options{zone: zone, port: server.Port()})
	var rcpts []string
	for _, c := range "abcdefghij" {
		for _, d := range "abcdefghijklmno" {
			rcpts = append(rcpts, string(c)+string(d)+"@x.test")
		}
	}
	j := r.submit(r.job(rcpts...))
	if rec := r.await(j, event.Delivered); len(rec.Recipients) != 150 || rec.Attempt != 1 {
		t.Errorf("%d recipients in attempt %d", len(rec.Recipients), rec.Attempt)
	}
	got := deliveries(t, server, 2)
	if len(got) != 2 || len(got[0].Recipients) != 100 || len(got[1].Recipients) != 50 {
		t.Errorf("%d transactions", len(got))
	}
	if n := server.Counts().Connections; n != 2 { // the second 421 made a fresh session, not a delay
		t.Errorf("%d connections", n)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: func(c *config.Config) {
		c.Delivery.Lifetime.Default = config.Duration(2 * time.Second)
	}})
	j := r.submit(r.job("450-4.2.1@x.test"))
	r.await(j, event.Delayed)
	rec := r.await(j, event.Failed)
	if rec.Reason != reasonExpired || rec.Attempt < 2 {
		t.Errorf("%+v", rec)
	}
	r.drained()
	f := r.failure(event.KindExpired)
	one := f.Recipients[0]
	if f.QueueID != j.QueueID || one.Reply.Status() != "4.2.1" || one.RemoteMTA == "" || len(f.Env.Recipients) != 1 {
		t.Errorf("%+v", f)
	}
	if f.At.Before(j.AcceptedAt.Add(2 * time.Second)) {
		t.Errorf("expired after %v", f.At.Sub(j.AcceptedAt))
	}
}

func TestAddressLiteral(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("a@[127.0.0.1]"))
	deliveries(t, server, 1)
	if rec := r.await(j, event.Delivered); rec.Recipients[0].RemoteMTA != "[127.0.0.1]" {
		t.Errorf("%+v", rec)
	}
}

func TestLoopIsRefused(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: func(c *config.Config) {
		c.Listeners = []config.Listener{{Address: server.Addr()}}
	}})
	j := r.submit(r.job("a@x.test"))
	if rec := r.await(j, event.Failed); rec.Recipients[0].Reply.Status() != "5.4.6" {
		t.Errorf("%+v", rec)
	}
	if n := server.Counts().Connections; n != 0 {
		t.Errorf("%d connections to ourselves", n)
	}
}

func TestLMTP(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{LMTP: true, NoTLS: true})
	r := start(t, options{zone: zone, port: 25, config: func(c *config.Config) {
		c.Delivery.Routes = []config.Route{{Domain: "store.test", To: "lmtp://" + server.Addr()}}
	}})
	j := r.submit(r.job("a@store.test", "data-550@store.test", "once-data-450@store.test"))
	r.await(j, event.Delivered)
	r.await(j, event.Failed)
	r.await(j, event.Delayed)
	if rec := r.await(j, event.Delivered); rec.Attempt != 2 || rec.Recipients[0].TLS != "" {
		t.Errorf("%+v", rec)
	}
}

func TestSandboxLeavesByRouteOnly(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: func(c *config.Config) {
		c.Sandbox = true
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
	}})
	j := r.submit(r.job("a@x.test"))
	r.await(j, event.Delayed)
	if n := server.Counts().Connections; n != 0 {
		t.Errorf("%d connections", n)
	}
}
