package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

func (r *relay) register(name, owner string, args ...string) {
	r.t.Helper()
	r.ok(append([]string{"device", "request", name, "--owner", owner}, args...)...)
	r.ok("device", "approve", name)
}

// noticed are the messages with that subject that arrived, by their recipient.
func (r *relay) noticed(subject string) map[string][]smtptest.Delivery {
	out := map[string][]smtptest.Delivery{}
	for _, d := range r.mx.Deliveries() {
		if d.Field("Subject") == subject {
			to := d.Recipients[0].Address.String()
			out[to] = append(out[to], d)
		}
	}
	return out
}

// shown is `notify show`, and its exit code.
func (r *relay) shown(id string) (s struct {
	Delivered int
	Effective string
	To        []struct{ Contact, State, Reply, QueueID string }
}, code int) {
	r.t.Helper()
	got := r.do("notify", "show", id, "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &s); err != nil {
		r.t.Fatalf("%v: %+v", err, got)
	}
	return s, got.code
}

// A notice reaches each contact once, and the books prove it.
func TestNotify(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "physics", "--contact", "lab@physics.test")
	r.register("prn-1.campus.test", "chem", "--contact", "anna@campus.test,bert@campus.test")
	r.register("prn-2.campus.test", "chem", "--contact", "Anna@campus.test")
	r.register("cam-1.campus.test", "physics")
	r.register("mute.campus.test", "none")
	r.ok("group", "add", "updates", "list@campus.test", "bert@campus.test")
	file := filepath.Join(t.TempDir(), "text")
	write(t, file, "On Sunday nothing is sent.\nGrüße\n")
	notify := func(args ...string) []string {
		return append([]string{"notify", "--subject", "Wartung für alle", "--text", file}, args...)
	}

	r.fails(2, "say which", notify()...)
	r.fails(2, "there is no file", "notify", "--all", "--subject", "x", "--text", file+"s")
	r.fails(2, "neither a day", notify("--all", "--effective", "soon", "--yes")...)
	r.fails(3, "no group", notify("--all", "--group", "nobody")...)
	r.fails(3, "nobody would hear", notify("mute.campus.test")...)
	r.fails(3, "no mail of a device came over", notify("--listener", "old")...)

	plan := r.do(notify("owner:chem", "owner:physics", "--yes")...)
	if plan.code != 3 { // no device is both
		t.Errorf("%+v", plan)
	}
	plan = r.do(notify("--all", "--group", "updates", "--effective", "2026-12-06")...)
	for _, want := range []string{"4 contacts of 5 devices", "not sent yet", "Nobody hears for 2 devices: mute.campus.test prn.campus.test"} {
		if !strings.Contains(plan.err, want) {
			t.Errorf("the plan does not say %q: %+v", want, plan)
		}
	}
	if plan.code != 0 || !strings.Contains(plan.stdout, "bert@campus.test") || len(r.list("notify", "ls")) != 0 {
		t.Errorf("%+v", plan)
	}

	send := notify("--all", "--group", "updates", "--effective", "2026-12-06", "--id", "sunday", "--yes")
	r.ok(send...)
	timetest.Await(t, "it is proven for all", func() bool { _, code := r.shown("sunday"); return code == 0 })
	const subject = "=?utf-8?q?Wartung_f=C3=BCr_alle?="
	got := r.noticed(subject)
	if len(got) != 4 || len(got["anna@campus.test"])+len(got["Anna@campus.test"]) != 1 {
		t.Fatalf("%d heard it: %v", len(got), got)
	}
	anna := string(slices.Concat(got["anna@campus.test"], got["Anna@campus.test"])[0].Content)
	for _, want := range []string{"Gr=C3=BC=C3=9Fe", "Begins:   2026-12-06", "prn-1.campus.test", "prn-2.campus.test", "postmaster@relay.campus.test"} {
		if !strings.Contains(anna, want) {
			t.Errorf("no %q in %s", want, anna)
		}
	}
	s, _ := r.shown("sunday")
	for _, to := range s.To {
		if to.State != "delivered" || to.Reply == "" {
			t.Errorf("%+v", to)
		}
	}
	if s.Effective != "2026-12-06" || s.Delivered != 4 {
		t.Errorf("%+v", s)
	}
	if text := r.ok("notify", "show", "sunday"); !strings.Contains(text, "4 of 4 delivered") || !strings.Contains(text, "+ delivered") {
		t.Error(text)
	}

	// The same again sends nothing; another under that name is refused.
	if again := r.do(send...); again.code != 0 || !strings.Contains(again.err, "was sent before") {
		t.Errorf("%+v", again)
	}
	r.fails(5, "another --id", append(send, "--effective", "2026-12-07")...)
	if list := r.list("notify", "ls"); len(list) != 1 || list[0]["author"] != actor() {
		t.Errorf("%v", list)
	}
	r.fails(3, "no notice", "notify", "show", "monday")

	// Only those whose mail came over a listener.
	r.submit("a@example.org")
	r.ok("device", "edit", "prn-1.campus.test", "addresses=127.0.0.9")
	timetest.Await(t, "ingress knows the address", func() bool {
		_, err := submit(t, r.smtp, "127.0.0.9", login{}, "a@example.org")
		return err == nil
	})
	timetest.Await(t, "the books know who uses the listener", func() bool {
		got := r.do(notify("--listener", "devices", "-o", "json")...)
		return got.code == 0 && strings.Contains(got.stdout, `"devices": 2`) && strings.Contains(got.stdout, "prn-1.campus.test") && !strings.Contains(got.stdout, "cam-1")
	})
	if n := len(r.noticed(subject)); n != 4 {
		t.Errorf("%d messages", n)
	}
}

// Contacts see what goes wrong: what was refused, and what was not delivered.
func TestNotifyProblem(t *testing.T) {
	r := start(t)
	r.register("prn-1.campus.test", "chem", "--contact", "anna@campus.test", "--address", "127.0.0.9", "--sender", "prn@campus.test")
	r.fails(3, "nothing went wrong", "notify", "problem", "prn-1.campus.test")
	timetest.Await(t, "ingress knows the device", func() bool {
		_, err := submit(t, r.smtp, "127.0.0.9", login{}, "550@example.org")
		return err == nil
	})
	r.ok("device", "suspend", "prn-1.campus.test")
	var refused error
	timetest.Await(t, "it is refused", func() bool {
		_, refused = submit(t, r.smtp, "127.0.0.9", login{}, "b@example.org")
		return refused != nil
	})
	timetest.Await(t, "both are known", func() bool {
		got := r.do("notify", "problem", "prn-1.campus.test")
		return got.code == 0 && strings.Contains(got.err, "not delivered.") && strings.Contains(got.err, "refused from 127.0.0.9") && strings.Contains(got.err, "not delivered to 550@example.org")
	})
	r.ok("notify", "problem", "prn-1.campus.test", "--yes", "--id", "trouble")
	timetest.Await(t, "it is proven", func() bool { _, code := r.shown("trouble"); return code == 0 })
	got := r.noticed("prn-1.campus.test: mail from it has a problem")["anna@campus.test"]
	if len(got) != 1 || !strings.Contains(string(got[0].Content), "Samples:  20") || !strings.Contains(string(got[0].Content), "Registration suspended") {
		t.Errorf("%v", got)
	}
}

// put writes an entry past the commands.
func (r *relay) put(item registry.Item) {
	r.t.Helper()
	item.Audit().Stamp(registry.Change{By: "tester", Reason: "test", At: time.Now()})
	if err := withRegistry(r.t.Context(), &flags{config: r.file}, func(s *store.Store, _ *registry.Snapshot) error {
		return s.Put(r.t.Context(), item)
	}); err != nil {
		r.t.Fatal(err)
	}
}
