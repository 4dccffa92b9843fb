package main

import (
	"encoding/json"
	"errors"
	"net/textproto"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/timetest"
)

// The reference that a device showed leads to what was refused, and why.
func TestTraceRefusal(t *testing.T) {
	r := start(t)
	_, err := submit(t, r.smtp, "127.9.9.9", login{}, "x@inet.test")
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		t.Fatalf("not refused: %v", err)
	}
	ref := strings.Fields(reply.Msg)[1]
	timetest.Await(t, ref+" is in the evidence", func() bool { return r.do("trace", ref).code == 0 })
	for _, typed := range []string{ref, strings.ToLower(strings.ReplaceAll(ref, "-", ""))} {
		got := r.ok("trace", typed)
		for _, text := range []string{ref, "refused at RCPT", "Not registered", "rule not-registered", "127.9.9.9", "x@inet.test"} {
			if !strings.Contains(got, text) {
				t.Errorf("trace %s has no %q:\n%s", typed, text, got)
			}
		}
	}
	var e event.Refusal
	if err := json.Unmarshal([]byte(r.ok("trace", ref, "-o", "json")), &e); err != nil || string(e.Ref) != ref {
		t.Errorf("%v, %+v", err, e)
	}
	r.fails(3, "no refusal", "trace", "2222-2222")
}

func TestMessageOf(t *testing.T) {
	for text, want := range map[string]string{
		"1JM70BYWR00007P8-0": "1JM70BYWR00007P8", "1JM70BYWR00007P8": "1JM70BYWR00007P8", "a-1@x.test": "a-1@x.test", "<x-1>": "<x-1>", "R7K2-9QF3": "R7K2-9QF3",
	} {
		if got := messageOf(text); got != want {
			t.Errorf("messageOf(%q) = %q", text, got)
		}
	}
}
