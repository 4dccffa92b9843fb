package authz

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of rules into docs/AUTHORIZATION.md")

const (
	page       = "../../docs/AUTHORIZATION.md"
	tableBegin = "| rule | it wants | switch |\n|---|---|---|\n"
)

// The table of rules in the documentation is the one that decides.
func TestDocument(t *testing.T) {
	var rows strings.Builder
	for _, r := range Catalog() {
		key := r.Switch
		if key != "" {
			key = "`" + strings.ReplaceAll(key, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&rows, "| %s | %s | %s |\n", r.Name, r.About, key)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	old, after, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		t.Fatalf("%s has no table of rules", page)
	}
	if old+"\n" == rows.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is stale; run go test ./shared/authz -update", page)
	}
	if err := os.WriteFile(page, []byte(before+tableBegin+rows.String()+"\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every rule that refuses says what a sender can do about it, and no two are
// called the same.
func TestCatalog(t *testing.T) {
	admits := map[string]bool{"sandbox": true, "report": true, "registered": true, "campus-to-hosted": true, "postmaster": true}
	seen := map[string]bool{}
	for _, r := range Catalog() {
		if seen[r.Name] || r.Name == "" || r.About == "" || (r.Fix == "") != admits[r.Name] {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
}
