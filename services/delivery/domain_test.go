package delivery

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/registry"
	domains "github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// A domain that is hosted by command is served where its route says, at once;
// without it, by its MX again.
func TestRouteOfHostedDomain(t *testing.T) {
	t.Parallel()
	byMX := mx(t, 1, 0, smtptest.Options{})
	routed := mx(t, 9, byMX.Port(), smtptest.Options{})
	r := start(t, options{zone: zone, port: byMX.Port()})
	reg, err := domains.Open(t.Context(), r.bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	d := &registry.Domain{Name: "x.test", Route: "smtp://" + net.JoinHostPort("127.0.0.9", strconv.Itoa(routed.Port())), Entry: registry.Entry{By: "tester"}}
	if err := reg.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	by := func(want string) func() bool {
		return func() bool {
			rec := r.await(r.submit(r.job("a@x.test")), event.Delivered)
			return strings.Contains(rec.Recipients[0].RemoteMTA, want)
		}
	}
	timetest.Await(t, "it goes by its route", by("127.0.0.9"))
	if err := reg.Remove(t.Context(), d, registry.Change{By: "tester"}); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "it goes by its MX", by("mx1.test"))
}
