package dnsx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/postrider/postrider/shared/dnstest"
)

func TestEqualQuestionsAreOneLookup(t *testing.T) {
	s := dnstest.Start(t, campus)
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var dials atomic.Int32
		r := open(t, Config{
			Servers: []string{"127.0.0.1:53"},
			Timeout: time.Hour,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				<-gate
				return s.Dial(ctx, network, address)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		impatient := make(chan error, 1)
		go func() {
			_, err := r.MX(ctx, "campus.test")
			impatient <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		results := make([]error, 20)
		for i := range results {
			wg.Go(func() { _, results[i] = r.MX(t.Context(), "CAMPUS.test") })
		}
		synctest.Wait()
		// The one who asked first goes away; the others still get the answer.
		cancel()
		if err := <-impatient; !errors.Is(err, context.Canceled) {
			t.Errorf("impatient: %v", err)
		}
		close(gate)
		wg.Wait()
		for _, err := range results {
			if err != nil {
				t.Errorf("a patient one failed: %v", err)
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// How long each kind of answer spares the servers.
func TestCacheTimes(t *testing.T) {
	s := dnstest.Start(t, `
		test        SOA ns.test. h.test. 1 1 1 1 120
		ten.test    10 TXT "x"
		zero.test   0 TXT "x"
		week.test   604800 TXT "x"
		alias.test  20 CNAME ten.test
		long.zone   86400 SOA ns.test. h.test. 1 1 1 1 86400
		hour.zone   3600 TXT "x"
		fails.test  3600 TXT "x"
		silent.test 3600 TXT "x"
	`)
	s.Fail("fails.test", dnstest.ServFail)
	s.Fail("silent.test", dnstest.Silent)
	for _, tt := range []struct {
		name string
		want time.Duration
	}{
		{"ten.test", 10 * time.Second},
		{"alias.test", 10 * time.Second},
		{"zero.test", minTTL},
		{"week.test", maxTTL},
		{"nowhere.test", 120 * time.Second},
		{"nowhere.long.zone", maxNegative},
		{"nowhere.else", 60 * time.Second},
		{"fails.test", failureTTL},
		{"silent.test", failureTTL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := inMemory(t, s)
				ask := func() (time.Duration, int) {
					before := s.Queries(tt.name, "TXT")
					a, _ := r.TXT(t.Context(), tt.name)
					return a.TTL, s.Queries(tt.name, "TXT") - before
				}
				ttl, n := ask()
				if n == 0 {
					t.Fatal("not asked")
				}
				if tt.want > failureTTL && ttl != tt.want {
					t.Errorf("TTL %v, want %v", ttl, tt.want)
				}
				time.Sleep(tt.want - 1)
				if ttl, n := ask(); n != 0 || ttl > 1 {
					t.Errorf("just before its end: %d queries, TTL %v", n, ttl)
				}
				time.Sleep(time.Nanosecond)
				if _, n := ask(); n == 0 {
					t.Error("served after its end")
				}
			})
		})
	}
}

func TestStale(t *testing.T) {
	s := dnstest.Start(t, campus)
	s.SetAuthentic(true)
	synctest.Test(t, func(t *testing.T) {
		r := inMemory(t, s)
		ask := func() (MXAnswer, int, error) {
			before := s.Queries("campus.test", "MX")
			mx, err := r.MX(t.Context(), "campus.test")
			return mx, s.Queries("campus.test", "MX") - before, err
		}
		if _, _, err := ask(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Addrs(t.Context(), "mx1.campus.test"); err != nil {
			t.Fatal(err)
		}
		s.Fail("campus.test", dnstest.ServFail)
		s.Fail("mx1.campus.test", dnstest.ServFail)

		time.Sleep(600 * time.Second) // the TTL
		for _, wantQueries := range []int{1, 0} {
			mx, n, err := ask()
			if err != nil || !mx.Stale || len(mx.Records) != 2 || mx.TTL != 0 || !mx.Authentic || n != wantQueries {
				t.Errorf("stale: %+v, %d queries, %v", mx, n, err)
			}
		}
		hosts, err := r.Hosts(t.Context(), "campus.test", nil)
		if err != nil || len(hosts) != 2 || !hosts[0].Stale {
			t.Errorf("hosts: %+v, %v", hosts, err)
		}
		if a, err := r.Addrs(t.Context(), "mx1.campus.test"); !Temporary(err) {
			t.Errorf("addresses were served stale: %+v, %v", a, err)
		}

		time.Sleep(failureTTL)
		if _, n, _ := ask(); n != 1 {
			t.Errorf("stale for more than %v without asking", failureTTL)
		}
		s.Fail("campus.test", dnstest.NoFault)
		time.Sleep(failureTTL)
		if mx, _, err := ask(); err != nil || mx.Stale || mx.TTL != 600*time.Second {
			t.Errorf("after recovery: %+v, %v", mx, err)
		}

		s.Fail("campus.test", dnstest.ServFail)
		time.Sleep(600*time.Second + maxStale - 1)
		if mx, _, err := ask(); err != nil || !mx.Stale {
			t.Errorf("just before the limit: %+v, %v", mx, err)
		}
		time.Sleep(time.Nanosecond)
		if mx, _, err := ask(); !Temporary(err) {
			t.Errorf("stale for more than %v: %+v, %v", maxStale, mx, err)
		}
	})
}

// A definite no replaces records at once: it is an answer.
func TestNoIsNotStale(t *testing.T) {
	s := dnstest.Start(t, campus)
	synctest.Test(t, func(t *testing.T) {
		r := inMemory(t, s)
		if _, err := r.MX(t.Context(), "campus.test"); err != nil {
			t.Fatal(err)
		}
		s.Remove("campus.test")
		time.Sleep(600 * time.Second)
		if mx, err := r.MX(t.Context(), "campus.test"); !errors.Is(err, ErrNoData) {
			t.Errorf("got %+v, %v", mx, err)
		}
		s.Fail("campus.test", dnstest.Silent)
		time.Sleep(maxNegative)
		if mx, err := r.MX(t.Context(), "campus.test"); !Temporary(err) {
			t.Errorf("a no was served stale: %+v, %v", mx, err)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	const octets = 100_000
	c, err := newCache(octets)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	big, err := dns.NewRR(`a.test. TXT "` + strings.Repeat("x", 250) + `"`)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		q := question{fmt.Sprintf("n%d.test.", i), dns.TypeTXT}
		c.put(q, answered(q, answer{canonical: q.name, records: []dns.RR{big, big}, ttl: time.Hour}, time.Now()))
	}
	c.entries.CleanUp()
	if w := c.entries.WeightedSize(); w > octets || w == 0 {
		t.Errorf("%d octets kept, limit %d", w, octets)
	}
}

func TestAnswersAreTheCallersOwn(t *testing.T) {
	s := dnstest.Start(t, campus)
	r := open(t, Config{Servers: []string{s.Addr()}})
	for range 2 {
		mx, err := r.MX(t.Context(), "campus.test")
		if err != nil || mx.Records[0].Host != "mx1.campus.test" {
			t.Fatalf("got %+v, %v", mx, err)
		}
		mx.Records[0].Host = "changed.test"
	}
}
