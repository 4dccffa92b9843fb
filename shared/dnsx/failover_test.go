package dnsx

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/dnstest"
)

// network dials several servers by their configured address.
type network map[string]*dnstest.Server

func (n network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s := n[address]; s != nil {
		return s.Dial(ctx, network, address)
	}
	return nil, errors.New("connection refused")
}

func TestFailover(t *testing.T) {
	first, second := dnstest.Start(t, campus), dnstest.Start(t, campus)
	for _, fault := range []dnstest.Fault{dnstest.ServFail, dnstest.Refused, dnstest.Lame, dnstest.Silent, dnstest.WrongQuestion, dnstest.TruncatedSilent} {
		first.Fail("campus.test", fault)
		synctest.Test(t, func(t *testing.T) {
			r := open(t, Config{
				Servers: []string{"192.0.2.1:53", "192.0.2.2:53"},
				Dial:    network{"192.0.2.1:53": first, "192.0.2.2:53": second}.dial,
			})
			if mx, err := r.MX(t.Context(), "campus.test"); err != nil || len(mx.Records) != 2 {
				t.Errorf("fault %d: %+v, %v", fault, mx, err)
			}
		})
	}
	first.Fail("campus.test", dnstest.ServFail)
	second.Fail("campus.test", dnstest.Refused)
	r := open(t, Config{
		Servers: []string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"},
		Dial:    network{"192.0.2.1:53": first, "192.0.2.2:53": second}.dial,
	})
	_, err := r.MX(t.Context(), "campus.test")
	const want = "look up MX campus.test: 192.0.2.1:53: SERVFAIL; 192.0.2.2:53: REFUSED; " +
		"192.0.2.3:53: connection refused; 192.0.2.3:53: connection refused"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSilentServerRests(t *testing.T) {
	first, second := dnstest.Start(t, campus), dnstest.Start(t, campus)
	first.Fail("campus.test", dnstest.Silent)
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{
			Servers: []string{"192.0.2.1:53", "192.0.2.2:53"},
			Dial:    network{"192.0.2.1:53": first, "192.0.2.2:53": second}.dial,
		})
		ask := func(name string) {
			if _, err := r.TXT(t.Context(), name); err != nil && !errors.Is(err, ErrNoData) {
				t.Errorf("%s: %v", name, err)
			}
		}
		ask("campus.test")
		ask("text.campus.test")
		if n := first.Queries("text.campus.test", ""); n != 0 {
			t.Errorf("the silent server was asked first, %d times", n)
		}
		time.Sleep(restTime)
		ask("mx1.campus.test")
		if n := first.Queries("mx1.campus.test", ""); n != 1 {
			t.Error("the server rests for ever")
		}
	})
}

func TestServerThatAnswersRestsNoMore(t *testing.T) {
	first, second := dnstest.Start(t, campus), dnstest.Start(t, campus)
	first.Fail("campus.test", dnstest.Silent)
	second.Fail("campus.test", dnstest.Silent)
	first.Fail("mx1.campus.test", dnstest.Silent)
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{
			Servers: []string{"192.0.2.1:53", "192.0.2.2:53"},
			Dial:    network{"192.0.2.1:53": first, "192.0.2.2:53": second}.dial,
		})
		if _, err := r.TXT(t.Context(), "campus.test"); !Temporary(err) {
			t.Errorf("both silent: %v", err)
		}
		// Both rest now; the second answers all the same.
		for _, name := range []string{"mx1.campus.test", "mx2.campus.test"} {
			if _, err := r.TXT(t.Context(), name); !errors.Is(err, ErrNoData) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := first.Queries("mx2.campus.test", ""); n != 0 {
			t.Error("the server that answers is not asked first")
		}
	})
}

// A validating server that finds forged data says SERVFAIL: no other server
// may overrule it.
func TestVerdictStands(t *testing.T) {
	validating, other := dnstest.Start(t, campus), dnstest.Start(t, campus)
	validating.Fail("campus.test", dnstest.ServFail)
	r := open(t, Config{
		Servers: []string{"192.0.2.1:53", "127.0.0.1:53"},
		Dial:    network{"127.0.0.1:53": validating, "192.0.2.1:53": other}.dial,
	})
	if mx, err := r.MX(t.Context(), "campus.test"); !Temporary(err) {
		t.Errorf("got %+v, %v", mx, err)
	}
	if n := other.Queries("campus.test", ""); n != 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}
