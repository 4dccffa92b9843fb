package ingress

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mailbox"
)

// A sender without a mailbox is refused where that is wanted; one about whom
// nobody can say anything is told to come again.
func TestSenderMustExist(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Policy.SenderMustExist = config.Mode(authz.Enforce) })
	asked := 0
	_, err := r.bus.NC.QueueSubscribe(mailbox.Subject, mailbox.Group, func(m *nats.Msg) {
		asked++
		m.Respond([]byte(map[string]string{"good@campus.test": "valid", "gone@campus.test": "unknown"}[string(m.Data)]))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bus.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	c := r.dial(campus)
	c.say("EHLO host.campus.test", "250")
	for sender, want := range map[string]string{"good@campus.test": "250", "gone@campus.test": "550 5.1.8 ", "hm@campus.test": "451 4.4.3 ", "": "250", "stranger@inet.test": "250"} {
		c.say("MAIL FROM:<"+sender+">", "250")
		c.say("RCPT TO:<anna@campus.test>", want)
		c.say("RCPT TO:<bert@campus.test>", want)
		c.say("RSET", "250")
	}
	if asked != 3 {
		t.Errorf("%d questions", asked)
	}
}
