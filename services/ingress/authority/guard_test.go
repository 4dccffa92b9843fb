package authority

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/authz"
)

// answering is an authority that is a function.
type answering func(ctx context.Context) (string, error)

func (f answering) Check(ctx context.Context, _, _ string) (string, error) { return f(ctx) }

func silence(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", down("silent")
}

// A dead authority costs the first ones their patience, and nobody after them.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, asked := true, 0
		g := guarded(authz.Kerberos, answering(func(ctx context.Context) (string, error) {
			asked++
			if dead {
				return silence(ctx)
			}
			return "name", nil
		}), 2, zerolog.Nop())
		began := time.Now()
		for range givenUp {
			if _, err := g.Check(t.Context(), "u", "p"); kindOf(err) != Unavailable {
				t.Errorf("dead: %v", err)
			}
		}
		if took := time.Since(began); took != givenUp*patience {
			t.Errorf("%v for %d questions", took, givenUp)
		}
		began = time.Now()
		if _, err := g.Check(t.Context(), "u", "p"); kindOf(err) != Unavailable || !strings.Contains(err.Error(), "not asked") || asked != givenUp || time.Since(began) != 0 {
			t.Errorf("given up: %v after %v, asked %d times", err, time.Since(began), asked)
		}
		time.Sleep(spared + time.Second)
		if _, err := g.Check(t.Context(), "u", "p"); kindOf(err) != Unavailable || asked != givenUp+1 {
			t.Errorf("tried again: %v, asked %d times", err, asked)
		}
		dead = false
		time.Sleep(spared + time.Second)
		for range 3 {
			if name, err := g.Check(t.Context(), "u", "p"); err != nil || name != "name" {
				t.Errorf("back: %q, %v", name, err)
			}
		}
	})
}

// What is wrong with one name takes the authority from nobody.
func TestVerdictsDoNotBreak(t *testing.T) {
	for _, err := range []error{no(Wrong, ""), no(Unknown, ""), no(Locked, ""), no(Unavailable, "no AES key")} {
		g := guarded(authz.Kerberos, answering(func(context.Context) (string, error) { return "", err }), 1, zerolog.Nop())
		for range 3 * givenUp {
			if _, got := g.Check(t.Context(), "u", "p"); got != err {
				t.Fatalf("%v, want %v", got, err)
			}
		}
	}
}

// Who waits for his turn in vain is told so in time.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		var at, peak atomic.Int32
		g := guarded(authz.LDAP, answering(func(ctx context.Context) (string, error) {
			n := at.Add(1)
			for had := peak.Load(); n > had && !peak.CompareAndSwap(had, n); had = peak.Load() {
			}
			defer at.Add(-1)
			return silence(ctx)
		}), most, zerolog.Nop())
		began := time.Now()
		var all sync.WaitGroup
		for range 4 * most {
			all.Go(func() {
				if _, err := g.Check(t.Context(), "u", "p"); kindOf(err) != Unavailable {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if peak.Load() != most || time.Since(began) != patience {
			t.Errorf("%d at once, for %v", peak.Load(), time.Since(began))
		}
	})
}

func TestPanic(t *testing.T) {
	g := guarded(authz.LDAP, answering(func(context.Context) (string, error) { panic("index out of range") }), 1, zerolog.Nop())
	for range 2 { // the turn was given back
		name, err := g.Check(t.Context(), "u", "p")
		if kindOf(err) != Unavailable || !strings.Contains(err.Error(), "index out of range") || name != "" {
			t.Errorf("%q, %v", name, err)
		}
	}
}
