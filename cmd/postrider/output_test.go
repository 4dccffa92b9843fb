package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

type thing struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func listed(t *testing.T, form string, things ...thing) string {
	t.Helper()
	var out bytes.Buffer
	l, err := newListing(&flags{output: form}, &out, []string{"name", "text"}, func(x thing) []string { return []string{x.Name, x.Text} })
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range things {
		if err := l.add(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestForms(t *testing.T) {
	a, b := thing{"a", "first"}, thing{"bb", "second, \"quoted\""}
	for _, tt := range []struct {
		form   string
		things []thing
		want   string
	}{
		{"table", nil, "NAME  TEXT\n"},
		{"table", []thing{a, b}, "NAME  TEXT\na     first\nbb    second, \"quoted\"\n"},
		{"csv", nil, "name,text\n"},
		{"csv", []thing{a, b}, "name,text\na,first\nbb,\"second, \"\"quoted\"\"\"\n"},
		{"jsonl", nil, ""},
		{"jsonl", []thing{a, b}, `{"name":"a","text":"first"}` + "\n" + `{"name":"bb","text":"second, \"quoted\""}` + "\n"},
		{"json", nil, "[]\n"},
		{"json", []thing{a}, "[\n  {\"name\":\"a\",\"text\":\"first\"}\n]\n"},
	} {
		if got := listed(t, tt.form, tt.things...); got != tt.want {
			t.Errorf("%s of %d:\n%s", tt.form, len(tt.things), got)
		}
	}
	var back []thing
	if err := json.Unmarshal([]byte(listed(t, "json", a, b)), &back); err != nil || len(back) != 2 || back[1] != b {
		t.Errorf("json reads back as %v, %v", back, err)
	}
}

// Nothing goes out before there is something to say: a command that fails at
// its first row leaves no half of a JSON array behind.
func TestNothingBeforeTheFirstRow(t *testing.T) {
	for _, form := range strings.Split(listings, "|") {
		var out bytes.Buffer
		if _, err := newListing(&flags{output: form}, &out, []string{"name", "text"}, func(thing) []string { return nil }); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 0 {
			t.Errorf("%s begins with %q", form, out.String())
		}
	}
}

func TestSpreadsheetsDoNotRunCells(t *testing.T) {
	for cell, want := range map[string]string{
		"=SUM(A1)": "'=SUM(A1)", "+49": "'+49", "-1+2": "'-1+2", "@x": "'@x", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"-": "-", "": "", "a=b": "a=b", "<a@b>": "<a@b>",
	} {
		rows, err := csv.NewReader(strings.NewReader(listed(t, "csv", thing{"x", cell}))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		// A CSV reader takes a CR before a LF away; no cell here ends so.
		if got := rows[1][1]; got != want {
			t.Errorf("%q becomes %q, want %q", cell, got, want)
		}
	}
}

func TestTerminalsDoNotObeyCells(t *testing.T) {
	for cell, want := range map[string]string{
		"\x1b[2Jgone":           "?[2Jgone",
		"two\nlines":            "two?lines",
		"tab\tcolumn":           "tab?column",
		"\u009b31m":             "?31m",
		"abc\u202edcba":         "abc?dcba",
		"zero\u200bwidth":       "zero?width",
		"line\u2028separator":   "line?separator",
		"größe 漢字 – fine":       "größe 漢字 – fine",
		"broken \xff utf-8":     "broken \ufffd utf-8",
		"back\bspace and \x7f.": "back?space and ?.",
	} {
		if got := visible(cell); got != want {
			t.Errorf("%q becomes %q, want %q", cell, got, want)
		}
		if got := listed(t, "table", thing{"x", cell}); strings.Count(got, "\n") != 2 || !strings.HasSuffix(got, "x     "+want+"\n") {
			t.Errorf("table:\n%s", got)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Minute: "now", 0: "0s", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 59*time.Second + 600*time.Millisecond: "1m",
		90 * time.Second: "1m", time.Hour: "1h00m", 3*time.Hour + 5*time.Minute: "3h05m", 52 * time.Hour: "2d4h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 9_999: "9999 B", 10_000: "10 kB", 9_999_999: "9999 kB", 10_000_000: "10 MB", 150_000_000: "150 MB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
