//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// plan is what a test does to a relay, and when.
type plan struct {
	seed     uint64
	messages int
	faults   []fault
}

// fault is one thing done to some processes.
type fault struct {
	// share of the whole work after which it happens, and a further wait.
	share float64
	after time.Duration
	// targets are the processes, in the order in which they are struck.
	targets []string
	// pause is how long they are away.
	pause time.Duration
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d messages of %d recipients, %d faults", p.seed, p.messages, recipients, len(p.faults))
	for i, f := range p.faults {
		fmt.Fprintf(&b, "\n%3d. at %4.1f %% and %3d ms: %s, for %s", i+1, 100*f.share, f.after.Milliseconds(), strings.Join(f.targets, " "), f.pause)
	}
	return b.String()
}

// oneByOne plans faults that strike one process each: every one in turn, in a
// random order, at random moments. Processes of one service take turns.
func oneByOne(seed uint64, messages, faults int, pause func(*rand.Rand) time.Duration) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, messages: messages}
	var round []string
	for range faults {
		if len(round) == 0 {
			round = targets(r)
			r.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		p.add(r, round[:1], pause(r))
		round = round[1:]
	}
	p.sort()
	return p
}

// targets are the processes that are struck in turn: all, or what FAULT_TARGETS
// names.
func targets(r *rand.Rand) []string {
	if list := os.Getenv("FAULT_TARGETS"); list != "" {
		return strings.Split(list, ",")
	}
	return []string{"nats-1", "ledger", "ingress", "policy", "signer", "bounce", pick(r, "delivery", "delivery-2")}
}

// allAtOnce plans faults that strike all processes.
func allAtOnce(seed uint64, messages, faults int, pause func(*rand.Rand) time.Duration) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, messages: messages}
	for range faults {
		all := []string{"nats-1", "ledger", "ingress", "policy", "signer", "bounce", "delivery", "delivery-2"}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		p.add(r, all, pause(r))
	}
	p.sort()
	return p
}

// add adds a fault at a moment between the first mail and the last.
func (p *plan) add(r *rand.Rand, targets []string, pause time.Duration) {
	p.faults = append(p.faults, fault{
		share: 0.03 + 0.87*r.Float64(), after: time.Duration(r.IntN(200)) * time.Millisecond, targets: targets, pause: pause,
	})
}

// sort brings the moments in order.
func (p *plan) sort() {
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.share, b.share) })
}

// think is how long each device waits between two messages, so that the load
// lasts for the faults and a second after each.
func (p *plan) think() time.Duration {
	lasts := time.Duration(len(p.faults)) * time.Second
	for _, f := range p.faults {
		lasts += f.pause
	}
	return lasts * connections / time.Duration(p.messages)
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// between is a random duration, in whole milliseconds.
func between(least, most time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration {
		return least + time.Duration(r.Int64N(int64((most-least)/time.Millisecond)))*time.Millisecond
	}
}

// always is one duration.
func always(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

// size is how much a test does; the environment may say otherwise.
func size(t *testing.T, messages, faults int) (int, int) {
	t.Helper()
	return number(t, "FAULT_MESSAGES", messages), number(t, "FAULT_KILLS", faults)
}

// shortSeed makes plans that suit the short forms: moments that are not close
// together, and stops that strike ingress, a worker and the store.
const shortSeed = "4344"

// seeds runs a test once for each seed.
func seeds(t *testing.T, run func(t *testing.T, seed uint64)) {
	list := os.Getenv("FAULT_SEEDS")
	if list == "" {
		list = shortSeed
	}
	for word := range strings.SplitSeq(list, ",") {
		seed, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil {
			t.Fatalf("FAULT_SEEDS: %v", err)
		}
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) { run(t, seed) })
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of one or more", name, text)
	}
	return n
}

// TestPlan: a seed says everything, and no process is spared.
func TestPlan(t *testing.T) {
	one, same := oneByOne(7, 100, 30, between(time.Second, 2*time.Second)), oneByOne(7, 100, 30, between(time.Second, 2*time.Second))
	if one.String() != same.String() {
		t.Errorf("two plans of one seed:\n%s\n%s", one, same)
	}
	if other := oneByOne(8, 100, 30, between(time.Second, 2*time.Second)); other.String() == one.String() {
		t.Error("another seed makes the same plan")
	}
	struck := map[string]int{}
	for i, f := range one.faults {
		struck[strings.TrimSuffix(f.targets[0], "-2")]++
		if i > 0 && f.share < one.faults[i-1].share || f.share <= 0 || f.share >= 1 {
			t.Errorf("fault %d is at %v", i, f.share)
		}
	}
	for _, name := range []string{"nats-1", "ledger", "ingress", "policy", "signer", "bounce", "delivery"} {
		if struck[name] < 4 {
			t.Errorf("%s is struck %d times of 30", name, struck[name])
		}
	}
}
