package ingress

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
)

// BenchmarkLive is a change of a registry of 100,000 devices, from the command
// to the answer of the last of three instances, on a session that is open: a
// block, then its end. All of them and their bus share this machine.
func BenchmarkLive(b *testing.B) {
	bus := queuetest.Start(b)
	for i := range 100_000 {
		d := &registry.Device{
			Name: fmt.Sprintf("prn-%d.building-%d.campus.test", i, i%200), Owner: fmt.Sprintf("unit-%d", i%300), Scope: registry.ScopeAnywhere, State: registry.StateActive,
			Contacts:  []string{fmt.Sprintf("it-%d@campus.test", i%300)},
			Addresses: []registry.Address{{Range: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}},
			Entry:     by,
		}
		value, err := json.Marshal(d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bus.JS.PublishAsync("$KV."+queue.BucketRegistry+"."+d.Key(), value, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-bus.JS.PublishAsyncComplete()
	var rigs []*rig
	var sessions []*client
	for range 3 {
		rigs = append(rigs, startOn(b, bus))
	}
	ask := func(c *client) string {
		c.say("RSET", "250")
		if got := c.ask("MAIL FROM:<prn@campus.test>"); !strings.HasPrefix(got, "250") {
			return got
		}
		return c.ask("RCPT TO:<anna@campus.test>")
	}
	var took []time.Duration
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		for _, want := range []string{"550 5.7.1", "250"} {
			for _, c := range sessions {
				c.conn.Close() // a session ends when it was refused too much
			}
			sessions = sessions[:0]
			for _, r := range rigs {
				c := r.dial(campus)
				c.say("EHLO host.campus.test", "250")
				sessions = append(sessions, c)
			}
			reg, err := rigs[0].store.Load(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			block, there := reg.BlockedAddress(netip.MustParseAddr(campus))
			began := time.Now()
			if there {
				err = rigs[0].store.Remove(b.Context(), block, registry.Change{By: "tester", At: time.Now()})
			} else {
				err = rigs[0].store.Put(b.Context(), &registry.Block{Subject: campus, Entry: by})
			}
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range sessions {
				for !strings.HasPrefix(ask(c), want) {
					<-tick.C // or the session ends for its refusals
				}
			}
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/slowest")
}
