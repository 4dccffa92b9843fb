package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	milter "github.com/emersion/go-milter"

	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
	"github.com/postrider/postrider/test/world"
)

// Mail that is held, by the program itself and its commands.

// standalone is `postrider up` as a process.
type standalone struct {
	world.World
	t         *testing.T
	bin, file string
	sink      *smtptest.MX
}

// upWith runs the program with a configuration that is completed by its own
// part; all mail goes to one sink.
func upWith(t *testing.T, own string) *standalone {
	t.Helper()
	p := &standalone{t: t, bin: filepath.Join(world.Binaries(t), "postrider"), file: filepath.Join(t.TempDir(), "postrider.yaml"), sink: smtptest.Start(t, smtptest.Options{})}
	p.T, p.SMTP = t, porttest.Addresses(t, 1)[0]
	text := fmt.Sprintf(`
relay: {hostname: relay.campus.test, data: %q}
listeners: [{name: devices, address: %q, mode: relay}]
networks: {campus: [127.1.0.0/16]}
domains: {hosted: [{name: campus.test, route: "smtp://%s"}]}
delivery: {routes: [{domain: "*", to: "smtp://%s"}], retry: [1h]}
metrics: {address: ""}
console: {address: ""}
%s`, filepath.Join(t.TempDir(), "data"), p.SMTP, p.sink.Addr(), p.sink.Addr(), own)
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	world.StartProcess(t, "postrider", nil, p.bin, "--config", p.file, "up")
	world.WaitFor(t, "the relay to take mail", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.SMTP)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return p
}

// run runs a command, and returns what it wrote to stdout.
func (p *standalone) run(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.bin, append([]string{"--config", p.file}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("postrider %q: %v: %s", args, err, complaint.String())
	}
	return out.String()
}

// row is a line of `queue ls`.
type row struct {
	QueueID    string     `json:"queue_id"`
	State      string     `json:"state"`
	Reason     string     `json:"reason"`
	Recipients []string   `json:"recipients"`
	Next       *time.Time `json:"next"`
}

func (p *standalone) listHeld() (rows []row) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.run("queue", "ls", "state:held", "-o", "json")), &rows); err != nil {
		p.t.Fatal(err)
	}
	return rows
}

// got counts the messages that reached a recipient.
func (p *standalone) got(address string) (n int) {
	for _, d := range p.sink.Deliveries() {
		for _, to := range d.Recipients {
			if to.String() == address {
				n++
			}
		}
	}
	return n
}

func (p *standalone) awaitGot(address string) {
	p.t.Helper()
	timetest.Await(p.t, "mail for "+address, func() bool { return p.got(address) > 0 })
}

// rspamd answers as an rspamd does, by the recipient.
func rspamd(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/checkv2" || !bytes.Contains(content, []byte("Scanned page.")) || r.Header.Get("Ip") == "" || r.Header.Get("From") == "" {
			http.Error(w, "no such request", http.StatusBadRequest)
			return
		}
		action := "no action"
		switch to := strings.Join(r.Header["Rcpt"], " "); {
		case strings.Contains(to, "phish"):
			action = "reject"
		case strings.Contains(to, "spam"):
			action = "add header"
		}
		fmt.Fprintf(w, `{"is_skipped":false,"score":20.1,"required_score":15.0,"action":%q,"symbols":{"GTUBE":{"name":"GTUBE","score":20.1}}}`, action)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// sieve is a milter that puts aside what goes to a virus.
type sieve struct {
	milter.NoOpMilter
	virus bool
}

func (s *sieve) RcptTo(to string, _ *milter.Modifier) (milter.Response, error) {
	s.virus = s.virus || strings.Contains(to, "virus")
	return milter.RespContinue, nil
}

func (s *sieve) Body(m *milter.Modifier) (milter.Response, error) {
	if s.virus {
		return milter.RespAccept, m.Quarantine("EICAR")
	}
	return milter.RespAccept, nil
}

func serveMilter(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &milter.Server{NewMilter: func() milter.Milter { return &sieve{} }, Actions: milter.OptAddHeader | milter.OptQuarantine}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return "inet:" + l.Addr().String()
}

// What rspamd marks is tagged, what it rejects is refused with a report, what a
// milter puts aside is held where `queue ls` shows it, until a person lets it go.
func TestW12_TaggedHeldOrRefused(t *testing.T) {
	p := upWith(t, fmt.Sprintf("devices: [{name: prn.campus.test, owner: chem, addresses: [127.0.0.1]}]\nscan: {rspamd: %q, milter: %q, on_reject: refuse}\n", rspamd(t), serveMilter(t)))
	p.Submit(world.Submission{From: "127.0.0.1", To: []string{"clean@inet.test"}})
	p.Submit(world.Submission{From: "127.0.0.1", To: []string{"spam@inet.test"}})
	p.Submit(world.Submission{From: "127.0.0.1", To: []string{"phish@inet.test"}})
	id := p.Submit(world.Submission{From: "127.0.0.1", To: []string{"virus@inet.test"}})
	p.awaitGot("clean@inet.test")
	p.awaitGot("spam@inet.test")
	p.awaitGot("prn@campus.test") // the report
	for _, d := range p.sink.Deliveries() {
		switch to := d.Recipients[0].String(); to {
		case "clean@inet.test":
			if d.Field("X-Spam") != "" {
				t.Errorf("what is clean is tagged:\n%s", d.Header)
			}
		case "spam@inet.test":
			if d.Field("X-Spam") != "Yes" || !strings.Contains(d.Field("X-Spam-Status"), "GTUBE") {
				t.Errorf("what is spam is not tagged:\n%s", d.Header)
			}
		case "prn@campus.test":
			if !bytes.Contains(d.Content, []byte("phish@inet.test")) || !bytes.Contains(d.Content, []byte("Status: 5.7.0")) {
				t.Errorf("the report:\n%s", d.Content)
			}
		default:
			t.Errorf("%s got mail", to)
		}
	}
	timetest.Await(t, "the virus is held", func() bool { return len(p.listHeld()) > 0 })
	if rows := p.listHeld(); len(rows) != 1 || rows[0].QueueID != string(id) || rows[0].State != "held" || !strings.Contains(rows[0].Reason, "content: ") || !strings.Contains(rows[0].Reason, "quarantine, EICAR") {
		t.Errorf("held %+v", rows)
	}
	p.run("queue", "release", string(id), "--reason", "a false alarm")
	p.awaitGot("virus@inet.test")
	if got := p.got("phish@inet.test"); got != 0 {
		t.Errorf("%d messages that were refused arrived", got)
	}
	p.run("ledger", "balance")
}

// Recipients are counted by the hour: a device that is over its limit is slowed
// and its mail held until it has its turn, its mail for us is spared, and a host
// that nobody knows is told where bulk mail goes.
func TestP33_RecipientsAreCountedByTheHour(t *testing.T) {
	p := upWith(t, "limits: {unregistered: {recipients_per_hour: 3}}\n")
	const device, host = "127.1.1.1", "127.1.9.9"
	p.run("device", "request", "prn.campus.test", "--address", device, "--recipients-per-hour", "4")
	p.run("device", "approve", "prn.campus.test")
	timetest.Await(t, "the device may send", func() bool {
		_, err := p.TrySubmit(world.Submission{From: device, To: []string{"a@inet.test", "b@inet.test"}})
		return err == nil
	})
	p.Submit(world.Submission{From: device, To: []string{"c@inet.test", "d@inet.test"}})
	p.awaitGot("d@inet.test")
	id := p.Submit(world.Submission{From: device, To: []string{"e@inet.test"}})
	p.Submit(world.Submission{From: device, To: []string{"staff@campus.test"}})
	p.awaitGot("staff@campus.test")
	timetest.Await(t, "it is held", func() bool { return len(p.listHeld()) > 0 })
	if rows := p.listHeld(); len(rows) != 1 || rows[0].QueueID != string(id) || !strings.HasPrefix(rows[0].Reason, "limit: ") || !strings.Contains(rows[0].Reason, "recipients_per_hour") || rows[0].Next == nil || rows[0].Next.Before(time.Now()) {
		t.Errorf("held %+v", rows)
	}
	if n := p.got("e@inet.test"); n != 0 {
		t.Errorf("%d messages over the limit arrived", n)
	}

	_, err := p.TrySubmit(world.Submission{From: host, Sender: "x@campus.test", To: []string{"1@campus.test", "2@campus.test", "3@campus.test", "4@campus.test"}})
	if err == nil || !strings.HasPrefix(err.Error(), "451 ") || !strings.Contains(err.Error(), "Over the hourly limit: 127.1.9.9. Bulk mail goes through the list service.") {
		t.Errorf("a host over its limit is told %v", err)
	}

	// With more room it goes by itself.
	p.run("device", "edit", "prn.campus.test", "limits.recipients_per_hour=100", "--reason", "more room")
	p.awaitGot("e@inet.test")
	if trace := p.run("trace", string(id)); !strings.Contains(trace, "its turn") || !strings.Contains(trace, "policy") {
		t.Errorf("the trace does not say that it had its turn:\n%s", trace)
	}
	p.run("ledger", "balance")
}
