package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

func TestSelectorErrors(t *testing.T) {
	for _, tt := range []struct {
		words string
		all   bool
		text  string
	}{
		{words: "domian:x", text: `"domian:x": unknown key in the selector; keys: class device domain`},
		{words: "Domain:x", text: "unknown key"},
		{words: ":x", text: "unknown key"},
		{words: "--domain:x", text: "unknown key"},
		{words: "-!domain:x", text: "unknown key"},
		{words: "domain:", text: "domain has no value"},
		{words: "-owner:", text: "owner has no value"},
		{words: "-", text: "id has no value"},
		{words: "domain:x older:", text: "older has no value"},
		{words: "older:tomorrow", text: "older: \"tomorrow\" is not a duration"},
		{words: "older:2", text: "is not a duration"},
		{words: "younger:-1h", text: "is not a duration"},
		{words: "state:late", text: `state: is ready, deferred or held, not "late"`},
		{words: "state:def*", text: "state: is ready, deferred or held"},
		{words: "domain:x", all: true, text: "contradict"},
		{words: "1HZ8Q2M4N6R8TVXZ", all: true, text: "contradict"},
	} {
		_, err := parseSelector([]string{tt.words}, tt.all)
		if err == nil || service.ExitCode(err) != service.ExitUsage || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%q: %v, want %q", tt.words, err, tt.text)
		}
	}
}

func TestNothingIsChosenByDefault(t *testing.T) {
	for _, words := range [][]string{nil, {""}, {"  "}} {
		s, err := parseSelector(words, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.chosen(); service.ExitCode(err) != service.ExitUsage {
			t.Errorf("%q chooses: %v", words, err)
		}
	}
	for _, words := range []string{"domain:x", "-domain:x", "1HZ8Q2M4N6R8TVXZ"} {
		if s, err := parseSelector([]string{words}, false); err != nil || s.chosen() != nil {
			t.Errorf("%q chooses nothing: %v", words, err)
		}
	}
	if s, err := parseSelector(nil, true); err != nil || s.chosen() != nil {
		t.Errorf("--all chooses nothing: %v", err)
	}
}

func TestSelectorMatches(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	to := func(s string) mail.Recipient {
		a, err := smtp.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return mail.Recipient{Address: smtp.ForwardPath{Address: a}}
	}
	sender, err := smtp.ParseReversePath("<prn/3@Campus.test>")
	if err != nil {
		t.Fatal(err)
	}
	deferred := queue.JobEntry{Target: "deliver.ready.normal.3", Job: &event.Job{
		ID: "1HZ8Q2M4N6R8TVXZ-0", QueueID: "1HZ8Q2M4N6R8TVXZ", AcceptedAt: now.Add(-3 * time.Hour), Class: mail.ClassScan, Destination: "inet.test",
		Env:    mail.Envelope{ReversePath: sender, Recipients: []mail.Recipient{to("anna@inet.test"), to("Ben@inet.test")}},
		Device: "prn-3.chem.campus.test", Owner: "chem", LastReply: "450 4.7.5 TLS handshake failed",
	}}
	report := queue.JobEntry{Job: &event.Job{
		ID: "1HZ8Q2M4N6R8TVX0-0", QueueID: "1HZ8Q2M4N6R8TVX0", AcceptedAt: now, Class: mail.ClassReport, Destination: "[192.0.2.1]",
		Env: mail.Envelope{Recipients: []mail.Recipient{to("x@[192.0.2.1]")}},
	}}
	for words, want := range map[string]string{ // d for the deferred job, r for the report
		"":                                  "dr",
		"domain:inet.test":                  "d",
		"domain:INET.test":                  "d",
		"domain:inet":                       "",
		"domain:*.test":                     "d",
		"domain:inet?test":                  "d",
		"domain:inet.tes?":                  "d",
		"domain:inet.tes??":                 "",
		"domain:[192.0.2.1]":                "r",
		"domain:[*":                         "r",
		"domain:(inet|x).test":              "",
		"-domain:inet.test":                 "r",
		"!domain:inet.test":                 "r",
		"state:deferred":                    "d",
		"state:READY":                       "r",
		"-state:deferred":                   "r",
		"older:2h":                          "d",
		"older:1d":                          "",
		"younger:2h":                        "r",
		"device:prn-*":                      "d",
		"-device:prn-*":                     "r",
		"owner:chem":                        "d",
		"class:report":                      "r",
		"sender:*@campus.test":              "d", // * passes the "/" of a local part
		"sender:<>":                         "r",
		"recipient:ben@*":                   "d",
		"-recipient:ben@*":                  "r",
		"reason:tls":                        "d",
		"reason:tls owner:chem":             "d",
		"reason:tls owner:physics":          "",
		"state:deferred -owner:chem":        "",
		"1HZ8Q2M4N6R8TVXZ":                  "d",
		"1hz8q2m4n6r8tvxz":                  "d",
		"1HZ8Q2M4N6R8TVXZ-0":                "d",
		"1HZ8Q2M4N6R8TVXZ-1":                "",
		"lHZ8Q2M4N6R8TVXo":                  "r", // as somebody read it aloud
		"1HZ8Q2M4N6R8TVX*":                  "dr",
		"id:1HZ8Q2M4N6R8TVXZ":               "d",
		"-1HZ8Q2M4N6R8TVXZ":                 "r",
		"1HZ8Q2M4N6R8TVXZ 1HZ8Q2M4N6R8TVX0": "dr",
		"1HZ8Q2M4N6R8TVXZ 1HZ8Q2M4N6R8TVX0 state:ready": "r",
		"1HZ8Q2M4N6R8TVX* -1HZ8Q2M4N6R8TVX0":            "d",
		"inet.test":                                     "", // a bare word is an id
	} {
		s, err := parseSelector([]string{words}, false)
		if err != nil {
			t.Errorf("%q: %v", words, err)
			continue
		}
		got := ""
		if s.matches(deferred, now) {
			got += "d"
		}
		if s.matches(report, now) {
			got += "r"
		}
		if got != want {
			t.Errorf("%q matches %q, want %q", words, got, want)
		}
	}
}

// Words that exclude begin like flags and must reach the selector; nothing
// else may change on the way.
func TestExcluding(t *testing.T) {
	for in, want := range map[string]string{
		"queue ls -owner:chem":               "queue ls !owner:chem",
		"queue ls -o json -domain:x":         "queue ls -o json !domain:x",
		"queue ls -1HZ8Q2M4N6R8TVXZ":         "queue ls !1HZ8Q2M4N6R8TVXZ",
		"queue ls --owner:chem -x:y -ojson":  "queue ls --owner:chem -x:y -ojson",
		"queue retry -":                      "queue retry -",
		"queue ls -- -owner:chem":            "queue ls -- -owner:chem",
		"queue ls owner:chem --config a:b.y": "queue ls owner:chem --config a:b.y",
	} {
		if got := strings.Join(excluding(strings.Fields(in)), " "); got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
	args := []string{"-owner:x"}
	if excluding(args); args[0] != "-owner:x" {
		t.Error("the caller's arguments changed")
	}
}

func TestWithStdin(t *testing.T) {
	got, err := withStdin([]string{"-"}, strings.NewReader("a\n\n  b \r\nc"))
	if err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := withStdin([]string{"a"}, nil); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q %v", got, err)
	}
	if _, err := withStdin([]string{"-"}, strings.NewReader(" \n")); service.ExitCode(err) != service.ExitUsage {
		t.Errorf("nothing on stdin: %v", err)
	}
	if _, err := withStdin([]string{"-"}, strings.NewReader("a\n"+strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line without end is read in part")
	}
}

func FuzzSelector(f *testing.F) {
	for _, words := range []string{"domain:example.org older:2h", "-state:deferred", "1HZ8Q2M4N6R8TVXZ", "sender:*?[\\", "-", "id:*"} {
		f.Add(words)
	}
	job := queue.JobEntry{Job: &event.Job{ID: "1HZ8Q2M4N6R8TVXZ-0", QueueID: "1HZ8Q2M4N6R8TVXZ", Destination: "inet.test"}}
	f.Fuzz(func(t *testing.T, words string) {
		s, err := parseSelector([]string{words}, false)
		if err != nil {
			if service.ExitCode(err) != service.ExitUsage {
				t.Errorf("%q exits %d: %v", words, service.ExitCode(err), err)
			}
			return
		}
		if chooses := strings.TrimSpace(words) != ""; chooses != (s.chosen() == nil) {
			t.Errorf("%q chooses: %v", words, !chooses)
		}
		s.matches(job, time.Unix(0, 0))
	})
}

func TestTermsOf(t *testing.T) {
	for text, want := range map[string][]string{
		"reason:no mail server":                   {"reason:no mail server"},
		"domain:x.test -reason:no server owner:a": {"domain:x.test", "-reason:no server", "owner:a"},
		"domain:x.test 1JM70BYWR00007P8":          {"domain:x.test", "1JM70BYWR00007P8"},
		" ":                                       nil,
	} {
		if got := termsOf(text); !slices.Equal(got, want) {
			t.Errorf("termsOf(%q) = %q", text, got)
		}
	}
}
