//go:build flood

package flood

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/test/world"
)

// The flood: a million recipients that are refused, over sessions of as many as
// one may have, from ten thousand addresses.
const (
	flooded    = 1_000_000
	perSession = 100
	abreast    = 20
	addresses  = 10_000
	device     = "127.1.0.2"
	stranger   = "127.1.0.9"
	patience   = 5 * time.Minute
)

// TestFlood: a million refused recipients leave REFUSED under its bound, every
// one of them in it or counted, and what is in it can be explained; the devices
// are served meanwhile.
func TestFlood(t *testing.T) {
	r := world.StartSingle(t, fmt.Sprintf("devices: [{name: prn.test, owner: chem, addresses: [%s]}]", device))
	startSink(t, r)
	began := time.Now()
	stop, served := make(chan struct{}), make(chan []time.Duration)
	go func() { served <- serve(t, r.SMTP, stop) }()
	told, innocent := flood(t, r.SMTP)
	took := time.Since(began)
	close(stop)
	times := <-served
	slices.Sort(times)
	t.Logf("%d recipients refused in %s (%.0f/s); %d messages of a device meanwhile, half within %s, the slowest %s",
		flooded, took.Round(time.Second), flooded/took.Seconds(), len(times), times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))

	bus := connect(t, r.Data)
	kept, counted, refs := await(t, bus, r, told)
	s, err := bus.JS.Stream(t.Context(), queue.StreamRefused)
	if err != nil {
		t.Fatal(err)
	}
	info := s.CachedInfo()
	t.Logf("REFUSED has %d records in %d MB of %d MB; %d refusals counted", kept, info.State.Bytes>>20, info.Config.MaxBytes>>20, counted)
	if limit := info.Config.MaxBytes; limit <= 0 || info.State.Bytes > uint64(limit) {
		t.Errorf("REFUSED has %d octets, its bound is %d", info.State.Bytes, limit)
	}
	explain(t, r, append(refs, innocent))
}

// flood sends it, and returns the first reference of each session. In the midst
// of it somebody else is refused once: innocent is what he was told.
func flood(t *testing.T, to string) (told map[string]bool, innocent string) {
	var next, refused atomic.Int64
	var mu sync.Mutex
	told = map[string]bool{}
	var group sync.WaitGroup
	for range abreast {
		group.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= flooded/perSession || t.Failed() {
					return
				}
				if n == flooded/perSession/2 {
					innocent = append(session(t, stranger, to, 1), "none")[0]
				}
				got := session(t, source(n), to, perSession)
				refused.Add(int64(len(got)))
				mu.Lock()
				for _, ref := range got[:min(1, len(got))] {
					told[ref] = true
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if refused.Load() != flooded {
		t.Fatalf("%d of %d recipients refused", refused.Load(), flooded)
	}
	return told, innocent
}

// source is the address of the n-th session.
func source(n int) string {
	n %= addresses
	return netip.AddrFrom4([4]byte{127, 66, byte(n >> 8), byte(n)}).String()
}

// session is one of refused recipients in a single segment, and their
// references.
func session(t *testing.T, from, to string, recipients int) (refs []string) {
	conn := dial(t, from, to)
	if conn == nil {
		return nil
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil {
		t.Error(err)
		return nil
	}
	text := bytes.NewBufferString("HELO flood\r\nMAIL FROM:<a@sender.test>\r\n")
	for range recipients {
		text.WriteString("RCPT TO:<x@elsewhere.test>\r\n")
	}
	if _, err := conn.Write(append(text.Bytes(), "QUIT\r\n"...)); err != nil {
		t.Error(err)
		return nil
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return refs
		}
		if words := strings.Fields(line); len(words) > 2 && words[0] == "550" {
			if ref, err := mail.ParseRef(words[2]); err == nil {
				refs = append(refs, string(ref))
			}
		}
	}
}

func dial(t *testing.T, from, to string) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Error(err)
		return nil
	}
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// serve sends one message after the other from the device until stop is closed,
// and returns how long each took from the connect to the final reply.
func serve(t *testing.T, to string, stop <-chan struct{}) (times []time.Duration) {
	for {
		began := time.Now()
		if !submit(t, to) {
			return times
		}
		times = append(times, time.Since(began))
		select {
		case <-stop:
			return times
		default:
		}
	}
}

// submit is one message of the device, step by step.
func submit(t *testing.T, to string) bool {
	conn := dial(t, device, to)
	if conn == nil {
		return false
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, step := range []struct{ say, want string }{
		{"", "220"}, {"HELO prn.test\r\n", "250"}, {"MAIL FROM:<prn@sender.test>\r\n", "250"}, {"RCPT TO:<anna@load.test>\r\n", "250"},
		{"DATA\r\n", "354"}, {"From: prn@sender.test\r\nSubject: scan\r\n\r\nA page.\r\n.\r\n", "250 2.0.0 queued as"}, {"QUIT\r\n", "221"},
	} {
		if _, err := io.WriteString(conn, step.say); err != nil {
			t.Error(err)
			return false
		}
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step.want) {
			t.Errorf("%q: got %q (%v), want %s", step.say, line, err, step.want)
			return false
		}
	}
	return true
}

func connect(t *testing.T, data string) *queue.Bus {
	access, err := natsd.ReadAccess(data)
	if err != nil {
		t.Fatal(err)
	}
	bus, err := queue.Connect(queue.Connection{URL: access.URL, Credentials: access.Credentials, Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// await waits until every refusal is in REFUSED, or counted there, or counted
// as dropped. refs are some of those told that are there singly.
func await(t *testing.T, bus *queue.Bus, r *world.Single, told map[string]bool) (records, counted int, refs []string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		records, counted, refs = 0, 0, nil
		err := bus.ListNewest(ctx, queue.StreamRefused, func(m *jetstream.RawStreamMsg) error {
			e, err := event.Decode[event.Refusal](m.Data)
			if err != nil {
				return err
			}
			records, counted = records+1, counted+e.Count
			if len(refs) < 10 && records%100 == 0 && told[string(e.Ref)] || len(refs) == 0 && told[string(e.Ref)] {
				refs = append(refs, string(e.Ref))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		dropped := metric(t, "http://"+r.Metrics+"/metrics", "postrider_ingress_evidence_dropped_total")
		if counted+dropped == flooded+1 {
			if dropped > 0 {
				t.Errorf("%d refusals dropped", dropped)
			}
			return records, counted, refs
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d refusals counted and %d dropped, of %d", counted, dropped, flooded+1)
		case <-tick.C:
		}
	}
}

// metric is a counter of the relay.
func metric(t *testing.T, url, name string) int {
	resp, err := http.Get(url) //nolint:gosec // the relay of this test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// explain asks for refusals of the flood by reference and by address, and for
// an address that nothing came from.
func explain(t *testing.T, r *world.Single, refs []string) {
	if len(refs) < 2 {
		t.Errorf("only %d references of the flood are kept", len(refs)-1)
	}
	for _, ref := range refs {
		began := time.Now()
		out, code := execute(t, r.Postrider, "explain", "--config", r.File, ref)
		if code != 0 || !strings.Contains(out, "rule not-registered") || !strings.Contains(out, "postrider device request") {
			t.Errorf("explain %s: exit %d\n%s", ref, code, out)
		}
		t.Logf("explain %s: exit %d in %s", ref, code, time.Since(began).Round(time.Millisecond))
	}
	for address, want := range map[string]string{source(0): "in that minute", source(addresses - 1): "in that minute", "127.77.0.1": "nothing seen from 127.77.0.1"} {
		began := time.Now()
		out, code := execute(t, r.Postrider, "explain", "--config", r.File, address, "--last", "50")
		t.Logf("explain %s: exit %d in %s", address, code, time.Since(began).Round(time.Millisecond))
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("explain %s: exit %d\n%s", address, code, out)
		}
	}
	out, _ := execute(t, r.Postrider, "explain", "--config", r.File, "prn.test", "-o", "json")
	var c struct {
		Attempts []struct{ Result string }
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil || len(c.Attempts) == 0 || c.Attempts[0].Result != "accepted" {
		t.Errorf("explain prn.test: %v\n%s", err, out)
	}
}

func execute(t *testing.T, program string, args ...string) (stdout string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	if errs.Len() > 0 {
		t.Logf("%s: %s", strings.Join(args, " "), errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// startSink starts the mailbox that the device writes to.
func startSink(t *testing.T, r *world.Single) {
	world.StartProcess(t, "sink", nil, r.Loadtest, "sink", "--listen", r.Sink, "--journal", filepath.Join(t.TempDir(), "sink.jsonl"))
}
