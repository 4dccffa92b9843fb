package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dkimRecords reads the records that a relay with made keys says to publish.
func dkimRecords(t *testing.T, data string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "dkim", "dns.txt"))
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, ". IN TXT ")
		if !ok {
			t.Fatalf("record %q", line)
		}
		records[name] = strings.NewReplacer(`" "`, "", `"`, "", "\n", "").Replace(value)
	}
	return records
}
