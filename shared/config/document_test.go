package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md and the golden files")

// docs/CONFIG.md is what the code says.
func TestDocumentIsCurrent(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "CONFIG.md")
	golden(t, page, Document())
}

func TestDocumentExplainsEveryKey(t *testing.T) {
	for line := range strings.Lines(Document()) {
		if strings.HasPrefix(line, "| `") && strings.HasSuffix(strings.TrimSpace(line), "|  |") {
			t.Errorf("no meaning: %s", line)
		}
	}
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s is stale; run go test ./shared/config -update. It should be:\n%s", path, got)
	}
}
