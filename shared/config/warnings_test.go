package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// doubtful.yaml meets every caution there is.
func TestWarnings(t *testing.T) {
	path := filepath.Join("testdata", "doubtful.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("doubtful.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	seen := map[string]bool{}
	for _, w := range c.Warnings() {
		b.WriteString(w.String() + "\n")
		_, effect, _ := strings.Cut(w.Text, ": ")
		seen[effect] = true
	}
	golden(t, strings.TrimSuffix(path, "yaml")+"want", b.String())
	for _, row := range append(unavailable(), doubtful()...) {
		if !seen[row.effect] && row.effect != noListener {
			t.Errorf("no case for: %s %s", row.key, row.effect)
		}
	}
}

func TestNoListenerIsAWarning(t *testing.T) {
	c, err := Parse("f.yaml", []byte("relay: {hostname: relay.campus.test}"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Warnings(); len(got) != 1 || got[0].String() != "f.yaml: listeners: "+noListener {
		t.Errorf("%v", got)
	}
}

const noListener = "there is no listener: ingress accepts no mail"
