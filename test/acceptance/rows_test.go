package acceptance

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/REQUIREMENTS.md")

const page = "../../docs/REQUIREMENTS.md"

func TestPageIsCurrent(t *testing.T) {
	if *update {
		if err := os.WriteFile(page, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	written, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != Page() {
		t.Error("docs/REQUIREMENTS.md is stale; run go test ./test/acceptance -update")
	}
}

// Rows and tests agree, here and in the folders that rows name.
func TestRows(t *testing.T) {
	faults := disagreements(Rows, Switches, func(folder string) []string { return testsIn(t, folder) })
	for _, f := range faults {
		t.Error(f)
	}
	for letter, last := range map[string]int{"P": 35, "W": 45, "S": 44, "M": 27, "X": 23} {
		n := 0
		for _, r := range Rows {
			if strings.HasPrefix(r.ID, letter) {
				n++
			}
		}
		if n != last {
			t.Errorf("%d rows of %s, want %d", n, letter, last)
		}
	}
}

// The check finds what it is there for.
func TestRowsDisagree(t *testing.T) {
	tests := map[string][]string{"": {"TestP1_A", "TestP2_B", "TestHelp"}, "test": {"TestC"}}
	in := func(folder string) []string { return tests[folder] }
	good := []Row{held("P1", "a.", "TestP1_A"), partly("P2", "b.", "c", "TestP2_B"), elsewhere("P3", "c.", "test.TestC"), notYet("P4", "d.")}
	if f := disagreements(good, nil, in); len(f) > 0 {
		t.Errorf("%v", f)
	}
	for want, rows := range map[string][]Row{
		"no test is called":   {good[0], good[1], held("P3", "c.", "TestP3_C")},
		"no test of test":     {good[0], good[1], elsewhere("P3", "c.", "test.TestD")},
		"names no row":        {good[0]},
		"does not claim":      {good[0], held("P2", "b.", "TestP1_A")},
		"claims tests":        {good[0], good[1], {ID: "P3", Text: "c.", Status: NotYet, Tests: []string{"TestP1_A"}}},
		"shown by no test":    {good[0], good[1], held("P3", "c.")},
		"says what is":        {good[0], partly("P2", "b.", "", "TestP2_B")},
		"twice":               {good[0], good[1], good[1]},
		"none of this suite":  {good[0], good[1], held("P3", "c.", "test.TestC")},
		"and one of this one": {good[0], good[1], elsewhere("P3", "c.", "TestP1_A")},
	} {
		if f := strings.Join(disagreements(rows, nil, in), "\n"); !strings.Contains(f, want) {
			t.Errorf("%s: %q", want, f)
		}
	}
	if f := strings.Join(disagreements(good, []Switch{{About: "x", Tests: []string{"TestNone"}}}, in), "\n"); !strings.Contains(f, "no test is called") {
		t.Errorf("switch: %q", f)
	}
}

var rowOfTest = regexp.MustCompile(`^Test([PWSMX][0-9]+)_`)

// disagreements are what rows and tests say differently. testsIn lists the tests
// of a folder, "" this one.
func disagreements(rows []Row, switches []Switch, testsIn func(string) []string) (faults []string) {
	exists := func(who, test string) {
		folder, name := split(test)
		switch {
		case slices.Contains(testsIn(folder), name):
		case folder == "":
			faults = append(faults, who+": no test is called "+name)
		default:
			faults = append(faults, who+": no test of "+folder+" is called "+name)
		}
	}
	byID := map[string]Row{}
	for _, r := range rows {
		if _, known := byID[r.ID]; known {
			faults = append(faults, r.ID+" is there twice")
		}
		byID[r.ID] = r
		for _, test := range r.Tests {
			exists(r.ID, test)
		}
		faults = append(faults, contradictions(r)...)
	}
	for _, s := range switches {
		for _, test := range s.Tests {
			exists(s.About, test)
		}
	}
	for _, test := range testsIn("") {
		m := rowOfTest.FindStringSubmatch(test)
		if m == nil {
			continue
		}
		switch r, known := byID[m[1]]; {
		case !known:
			faults = append(faults, test+" names no row")
		case !slices.Contains(r.Tests, test):
			faults = append(faults, r.ID+" does not claim "+test)
		}
	}
	return faults
}

// contradictions are what a row says that cannot be.
func contradictions(r Row) (faults []string) {
	here := slices.ContainsFunc(r.Tests, func(test string) bool { folder, _ := split(test); return folder == "" })
	switch {
	case r.Status == NotYet && len(r.Tests) > 0:
		faults = append(faults, r.ID+" is not kept and claims tests")
	case r.Status != NotYet && len(r.Tests) == 0:
		faults = append(faults, r.ID+" is shown by no test")
	case (r.Status == Held || r.Status == Partly) && !here:
		faults = append(faults, r.ID+" is shown by none of this suite")
	case r.Status == Elsewhere && here:
		faults = append(faults, r.ID+" is shown elsewhere, and one of this one shows it")
	}
	if (r.Status == Partly) != (r.Missing != "") {
		faults = append(faults, r.ID+" says what is missing exactly if it is kept in part")
	}
	return faults
}

// split tells the folder of a test from its name.
func split(test string) (folder, name string) {
	i := strings.LastIndexByte(test, '.')
	return test[:max(i, 0)], test[i+1:]
}

// testsIn reads the names of the tests in a folder of the repository, with
// whatever build tags.
func testsIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	dir := "."
	if folder != "" {
		dir = filepath.Join("..", "..", folder)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no tests: %v", dir, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
