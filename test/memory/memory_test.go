//go:build memory

package memory

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/smtptest"
)

const (
	// bound is what a process may have resident at its peak, in octets.
	bound = 200 << 20
	// atOnce is how many large messages come side by side.
	atOnce = 20
	// margin is how far below the limit their size stays, in octets.
	margin = 1000
	// arrival bounds how long they may be under way.
	arrival = 5 * time.Minute
)

// bounded are the services that see the content.
var bounded = []string{"ingress", "signer", "delivery"}

// TestLargeMessages: a message just under limits.message_size, then 20 of them
// over 20 connections. Each arrives octet for octet, and no process that
// touches their content has more than bound resident.
func TestLargeMessages(t *testing.T) {
	t.Run("in clear", func(t *testing.T) { large(t, smtptest.Options{NoTLS: true}, "") })
	t.Run("STARTTLS", func(t *testing.T) { large(t, smtptest.Options{}, "TLS 1.3") })
}

func large(t *testing.T, sink smtptest.Options, tls string) {
	r := separate(t, sink)
	highest := r.measure(t, tls)
	for _, name := range bounded {
		if highest[name] > bound {
			t.Errorf("%s had %d MB resident, more than %d MB", name, highest[name]>>20, bound>>20)
		}
	}
}

// limited is what GOMEMLIMIT is set to for a relay in one process, and loose
// what it may have resident then, in octets: the limit is a soft one.
const (
	limited = 400 << 20
	loose   = 500 << 20
)

// TestLargeMessagesInOneProcess sends the same through one process with the
// server of the bus in it. That one caches the blocks that it reads and writes
// for as long as there is memory, and gives them back where GOMEMLIMIT says that
// there is not: the one figure is for information, the other is held.
func TestLargeMessagesInOneProcess(t *testing.T) {
	t.Run("without a limit", func(t *testing.T) {
		r := together(t)
		r.measure(t, "TLS 1.3")
	})
	t.Run("with GOMEMLIMIT", func(t *testing.T) {
		r := together(t, fmt.Sprintf("GOMEMLIMIT=%d", limited))
		if highest := r.measure(t, "TLS 1.3")[oneProcess]; highest > loose {
			t.Errorf("it had %d MB resident, more than %d MB", highest>>20, loose>>20)
		}
	})
}

// measure sends one large message, then many at once, and returns the highest
// peaks.
func (r *relay) measure(t *testing.T, tls string) memoryOf {
	t.Helper()
	size := int(r.Config.Limits.MessageSize) - margin
	t.Logf("idle: %s", r.peaks(t))
	r.send(t, size, tls, "one")
	highest := r.peaks(t)
	t.Logf("one message of %d octets: %s", size, highest)
	var tokens []string
	for i := range atOnce {
		tokens = append(tokens, fmt.Sprintf("many-%02d", i))
	}
	r.send(t, size, tls, tokens...)
	many := r.peaks(t)
	t.Logf("%d at once: %s", atOnce, many)
	r.Balances()
	for name, peak := range many {
		highest[name] = max(highest[name], peak)
	}
	return highest
}

// peaks reads the peak of every process and begins it anew.
func (r *relay) peaks(t *testing.T) memoryOf {
	t.Helper()
	m := memoryOf{}
	for name, pid := range r.pids {
		got, err := residentOf(pid)
		if err == nil {
			err = forgetPeak(pid)
		}
		if err != nil {
			t.Fatal(err)
		}
		m[name] = got.peak
	}
	return m
}

// memoryOf is what each service had resident, in octets.
type memoryOf map[string]int64

func (m memoryOf) String() string {
	var s []string
	for _, name := range append(services, oneProcess) {
		if n, ok := m[name]; ok {
			s = append(s, fmt.Sprintf("%s %.1f MB", name, float64(n)/(1<<20)))
		}
	}
	return strings.Join(s, ", ")
}

// send submits a message for each token, all at once, and waits until all are
// at the sink as they were sent.
func (r *relay) send(t *testing.T, size int, tls string, tokens ...string) {
	t.Helper()
	before := r.sink.Counts().Stored
	stop := watch(t, r.pids)
	began := time.Now()
	digests := r.submit(t, size, tokens)
	accepted := time.Since(began)
	ctx, cancel := context.WithTimeout(t.Context(), arrival)
	defer cancel()
	want := before + int64(len(tokens))
	err := r.sink.WaitFor(ctx, func(c smtptest.Counts) bool { return c.Stored >= want })
	took := time.Since(began)
	highest := stop()
	if err != nil {
		t.Fatalf("%d messages did not arrive: %v", len(tokens), err)
	}
	t.Logf("highest samples: %s; accepted after %.1f s, arrived after %.1f s", memoryOf(highest), accepted.Seconds(), took.Seconds())
	r.compare(t, digests, tls)
}

func (r *relay) submit(t *testing.T, size int, tokens []string) map[string]string {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	digests := map[string]string{}
	for _, token := range tokens {
		all.Go(func() {
			digest, err := submit(t, r.SMTP, token, size)
			if err != nil {
				t.Errorf("submit %s: %v", token, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			digests[token] = digest
		})
	}
	all.Wait()
	return digests
}

// compare holds what arrived against what was sent.
func (r *relay) compare(t *testing.T, digests map[string]string, tls string) {
	t.Helper()
	arrived, err := r.journal.entries()
	if err != nil {
		t.Fatal(err)
	}
	for token, digest := range digests {
		copies := arrived[token]
		if len(copies) != 1 {
			t.Errorf("%s arrived %d times", token, len(copies))
			continue
		}
		if c := copies[0]; c.SHA256Body != digest || c.TLS != tls {
			t.Errorf("%s arrived with digest %s over %q, want %s over %q", token, c.SHA256Body, c.TLS, digest, tls)
		}
	}
}
