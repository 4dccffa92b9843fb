package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestWriterKeepsEveryLine(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("durable=%v", durable), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "client.jsonl")
			w, err := Open(path, durable)
			if err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					for j := range 25 {
						if err := w.Append(Submission{Token: fmt.Sprint(i, "-", j), Phase: Sent}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			if durable && w.synced != w.written {
				t.Errorf("synced %d of %d lines", w.synced, w.written)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			lines, err := ReadFile[Submission](path, Whole)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, line := range lines {
				seen[line.Token] = true
			}
			if len(lines) != 200 || len(seen) != 200 {
				t.Errorf("read %d lines, %d tokens; want 200", len(lines), len(seen))
			}
		})
	}
}

func TestOpenCutsUnfinishedLine(t *testing.T) {
	long := strings.Repeat("x", 150<<10)
	for _, tt := range []struct{ before, want string }{
		{"", ""},
		{`{"token":"a"}` + "\n", "a"},
		{`{"token":"a"}` + "\n" + `{"tok`, "a"},
		{`{"token":"a"}` + "\n" + `{"token":"` + long, "a"},
		{`{"tok`, ""},
	} {
		path := filepath.Join(t.TempDir(), "sink.jsonl")
		if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(path, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(Arrival{Token: "new"}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		lines, err := ReadFile[Arrival](path, Whole)
		var tokens []string
		for _, line := range lines {
			tokens = append(tokens, line.Token)
		}
		want := strings.TrimSpace(tt.want + " new")
		if err != nil || strings.Join(tokens, " ") != want {
			t.Errorf("after %.20q: %q, %v; want %q", tt.before, tokens, err, want)
		}
	}
}

func TestAppendFailsForGood(t *testing.T) {
	w, err := Open(filepath.Join(t.TempDir(), "j"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := w.Append(Submission{}), w.Append(Submission{})
	if first == nil || !errors.Is(second, first) {
		t.Errorf("append to a closed journal: %v, then %v", first, second)
	}
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		in   string
		tail Tail
		want int // -1: unusable
	}{
		{"", Whole, 0},
		{"{}\n{}\n", Whole, 2},
		{"{}\n\n{}\n", Whole, 2},
		{"{}\n{}", Whole, -1},
		{"{}\n{}", MayBeCut, 1},
		{"{}\n{\"tok", MayBeCut, 1},
		{"{}\nnonsense\n", MayBeCut, -1},
		{`{"token":7}` + "\n", MayBeCut, -1},
		{`{"later":"field"}` + "\n", Whole, 1},
	} {
		lines, err := Read[Submission](strings.NewReader(tt.in), tt.tail)
		if tt.want < 0 {
			if !errors.Is(err, ErrUnusable) {
				t.Errorf("Read(%q): %v, want ErrUnusable", tt.in, err)
			}
			continue
		}
		if err != nil || len(lines) != tt.want {
			t.Errorf("Read(%q) = %d lines, %v; want %d", tt.in, len(lines), err, tt.want)
		}
	}
}
