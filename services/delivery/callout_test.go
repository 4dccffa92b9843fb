package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/smtptest"
)

// Whether a mailbox exists is what its server says of it for good, and nothing
// else. Nothing is sent, and the session serves the next question.
func TestCallout(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	mx(t, 3, server.Port(), smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageMail: "550"}})
	r := start(t, options{zone: zone + "\n	away.test MX 10 mx2.test\n", port: server.Port()})
	asker := mailbox.New(r.bus, mailbox.Subject)
	ask := func(address string) authz.Standing {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return asker.Ask(ctx, address)
	}
	for address, want := range map[string]authz.Standing{
		"prn@x.test": authz.StandingValid, "251@x.test": authz.StandingValid,
		"550-5.1.1@x.test": authz.StandingUnknown, "553-5.1.3@x.test": authz.StandingUnknown,
		"550-5.7.1@x.test": authz.StandingDoubt, "552-5.2.2@x.test": authz.StandingDoubt, "450@x.test": authz.StandingDoubt, "421@x.test": authz.StandingDoubt,
		"drop@x.test": authz.StandingDoubt, "prn@other.test": authz.StandingDoubt, // MAIL is refused: nothing is said of the address
		"prn@null.test": authz.StandingDoubt, "prn@absent.test": authz.StandingDoubt, "prn@away.test": authz.StandingDoubt,
		"größe@x.test": authz.StandingDoubt, "no address": authz.StandingDoubt,
	} {
		if got := ask(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	j := r.submit(r.job("a@x.test"))
	r.await(j, "delivered")
	if n := len(deliveries(t, server, 1)); n != 1 {
		t.Errorf("%d messages came", n)
	}
}

// What TLS a destination must have, a question to it must have, too.
func TestCalloutNotInClear(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{NoTLS: true})
	r := start(t, options{zone: zone, port: server.Port(), config: func(c *config.Config) {
		c.Delivery.RequireTLS = []config.RequireTLS{{Domain: "x.test", Level: config.TLSEncrypt}}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got := mailbox.New(r.bus, mailbox.Subject).Ask(ctx, "prn@x.test"); got != authz.StandingDoubt {
		t.Errorf("asked in clear: %s", got)
	}
}
