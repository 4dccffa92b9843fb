package smtptest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

func TestForRecipient(t *testing.T) {
	reply := func(code int, status smtp.Enhanced) smtp.Reply {
		return smtp.Reply{Code: code, Enhanced: status, Text: "As the address asks"}
	}
	greylisted := smtp.Reply{Code: 451, Enhanced: "7.1", Text: "Greylisted, try again later"}
	for local, want := range map[string]Behaviour{
		"450":                      {Stage: StageRcpt, Reply: reply(450, "")},
		"450+token":                {Stage: StageRcpt, Reply: reply(450, "")},
		"450-5.7.1":                {Stage: StageRcpt, Reply: reply(450, "7.1")},
		"550-5.1.1+x+y":            {Stage: StageRcpt, Reply: reply(550, "1.1")},
		"354":                      {Stage: StageRcpt, Reply: reply(354, "")},
		"rcpt-550":                 {Stage: StageRcpt, Reply: reply(550, "")},
		"DATA-451":                 {Stage: StageData, Reply: reply(451, "")},
		"data-554-5.7.1":           {Stage: StageData, Reply: reply(554, "7.1")},
		"predata-421":              {Stage: StagePredata, Reply: reply(421, "")},
		"content-552":              {Stage: StageContent, Reply: reply(552, "")},
		"drop":                     {Stage: StageRcpt, Drop: true},
		"drop-data+1":              {Stage: StageContent, Drop: true},
		"content-drop":             {Stage: StageContent, Drop: true},
		"drop-after-dot":           {Stage: StageData, Drop: true},
		"data-drop":                {Stage: StageData, Drop: true},
		"once-drop-after-dot":      {Stage: StageData, First: 1, Drop: true},
		"tarpit-2s":                {Stage: StageRcpt, Tarpit: 2 * time.Second},
		"trickle-1s500ms":          {Stage: StageRcpt, Trickle: 1500 * time.Millisecond},
		"data-pause-60s":           {Stage: StageData, Pause: time.Minute},
		"greylist":                 {Stage: StageRcpt, First: 1, Reply: greylisted},
		"twice-greylist":           {Stage: StageRcpt, First: 2, Reply: greylisted},
		"twice-450":                {Stage: StageRcpt, First: 2, Reply: reply(450, "")},
		"first-7-data-451-4.3.0":   {Stage: StageData, First: 7, Reply: reply(451, "3.0")},
		"data-first-7-451-4.3.0":   {Stage: StageData, First: 7, Reply: reply(451, "3.0")},
		"u1":                       {},
		"u1+450":                   {},
		"data-entry":               {},
		"drop-shipping":            {},
		"450x":                     {},
		"4501":                     {},
		"+450":                     {},
		"-450":                     {},
		"450-":                     {},
		"450-4.7":                  {},
		"450-4.7.1-x":              {},
		"450-4.7.1 x":              {},
		"199":                      {},
		"260":                      {},
		"355":                      {},
		"460":                      {},
		"560":                      {},
		"tarpit-":                  {},
		"tarpit-soon":              {},
		"tarpit--1s":               {},
		"tarpit-0s":                {},
		"tarpit-2h":                {},
		"once-":                    {},
		"once-once-450":            {},
		"data-data-450":            {},
		"data-drop-data":           {},
		"first-0-450":              {},
		"first-99999-450":          {},
		"mail-450":                 {},
		"connect-450":              {},
		"":                         {},
		"\"a b\"":                  {},
		strings.Repeat("once-", 9): {},
	} {
		if got := ForRecipient(local); got != want {
			t.Errorf("ForRecipient(%q) = %+v, want %+v", local, got, want)
		}
	}
	if got := ForSender("once-mail-drop+1"); got != (Behaviour{Stage: StageMail, First: 1, Drop: true}) {
		t.Errorf("ForSender: %+v", got)
	}
	for _, local := range []string{"450", "drop", "data-450", "u1", ""} {
		if got := ForSender(local); got != (Behaviour{}) {
			t.Errorf("ForSender(%q) = %+v", local, got)
		}
	}
}

func TestGrammarIsDocumented(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	comment, _, _ := strings.Cut(string(text), "package smtptest")
	for line := range strings.Lines(Grammar) {
		if !strings.Contains(comment, "//\t"+line) {
			t.Errorf("package comment lacks %q", line)
		}
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	a := attempts{seen: map[string]int{"old": 1}}
	if a.within(1, "old") || !a.within(1, "new") {
		t.Error("attempts are not counted by key")
	}
}

func FuzzForRecipient(f *testing.F) {
	for _, s := range []string{"450-4.7.1+x", "once-data-451", "drop-after-dot", "tarpit-2s", "first-3-drop"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, local string) {
		b := ForRecipient(local)
		if b != ForRecipient(local+"+450") {
			t.Errorf("%q: a detail changes the behaviour", local)
		}
		for _, d := range []time.Duration{b.Pause, b.Tarpit, b.Trickle} {
			if d < 0 || d > MaxDelay {
				t.Errorf("%q: delay %v", local, d)
			}
		}
		if b.First < 0 || !b.Reply.IsZero() && !replyCode(b.Reply.Code) || strings.ContainsAny(b.Reply.String(), "\r\n") {
			t.Errorf("%q: %+v", local, b)
		}
	})
}
