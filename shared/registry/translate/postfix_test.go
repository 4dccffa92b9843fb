package translate

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/postrider/postrider/shared/config"
)

var update = flag.Bool("update", false, "write the golden files")

func campus(t *testing.T) *Result {
	t.Helper()
	r, err := Postfix(os.DirFS("testdata/postfix"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// printed is a result for people: account, entries, fragment.
func printed(r *Result) string {
	w := &strings.Builder{}
	for _, l := range r.Lines {
		fmt.Fprintf(w, "%s:%d %s\n    %s: %s\n", l.File, l.First, l.Text, l.Fate, l.Why)
		if l.Fate == Untranslated {
			fmt.Fprintf(w, "    do: %s\n    concerns: %s\n", l.Do, l.Concerns)
		}
	}
	fmt.Fprintln(w)
	for item := range r.Entries.All() {
		value, _ := json.Marshal(item)
		fmt.Fprintf(w, "%s\n    %s\n", item, value)
	}
	fmt.Fprintf(w, "\n%s", r.Hints.YAML())
	return w.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is made now (go test -update writes it):\n%s", file, got)
	}
}

// TestPostfix shows what becomes of each line of a directory with some of
// everything.
func TestPostfix(t *testing.T) {
	r := campus(t)
	golden(t, "testdata/postfix.golden", printed(r))
	if _, err := config.Parse("fragment", []byte(r.Hints.YAML())); err != nil {
		t.Errorf("the fragment: %v", err)
	}
	for _, d := range r.Entries.Devices {
		if faults := d.Check(); len(faults) > 0 {
			t.Errorf("%s: %v", d, faults)
		}
	}
	if strings.Contains(printed(r), "hunter") {
		t.Error("a password is shown")
	}
	if again := printed(campus(t)); again != printed(r) {
		t.Error("the same directory gives another result")
	}
}

// Nothing is dropped: every line of every file that says something has a row.
func TestEveryLine(t *testing.T) {
	accounted(t, campus(t), "testdata/postfix")
}

func accounted(t *testing.T, r *Result, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if !hasRow(r, filepath.Base(file), i+1) {
				t.Errorf("%s:%d %q is not in the account", filepath.Base(file), i+1, line)
			}
		}
	}
	for _, l := range r.Lines {
		if l.Why == "" || l.File == "" || (l.Do == "") == (l.Fate == Untranslated) {
			t.Errorf("a row says too little: %+v", l)
		}
	}
}

func hasRow(r *Result, file string, n int) bool {
	for _, l := range r.Lines {
		if l.File == file && (l.First == 0 && l.Text == file || l.First <= n && n <= max(l.First, l.Last)) {
			return true
		}
	}
	return false
}

// directory is one of a test.
func directory(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// TestUntranslatable is what a row must say where something cannot be known.
func TestUntranslatable(t *testing.T) {
	const relay = "myhostname = relay.campus.test\nmynetworks = 10.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no mynetworks":  {map[string]string{"main.cf": "compatibility_level = 2\n"}, "mynetworks is not set: Postfix takes what mynetworks_style (host)"},
		"no master.cf":   {map[string]string{"main.cf": relay}, "there is no master.cf"},
		"open relay":     {map[string]string{"main.cf": "mynetworks = 10.0.0.1\nsmtpd_relay_restrictions = permit\n"}, "this is an open relay"},
		"everybody mine": {map[string]string{"main.cf": "mynetworks = 0.0.0.0/0\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"}, "every address is admitted there"},
		"a directory":    {map[string]string{"main.cf": relay + "smtpd_client_restrictions = check_client_access ldap:/etc/postfix/x.cf\n"}, "a table of type ldap cannot be read"},
		"compiled only":  {map[string]string{"main.cf": relay + "smtpd_client_restrictions = check_client_access hash:/etc/postfix/x\n", "x.db": "\x00"}, "the source of hash:/etc/postfix/x is not in the directory"},
		"elsewhere":      {map[string]string{"main.cf": relay + "smtpd_client_restrictions = hash:/srv/mail/x\n"}, "/srv/mail/x is not in the copied directory"},
		"a loop":         {map[string]string{"main.cf": relay + "a = $b\nb = $a\n"}, "is defined by itself"},
		"unknown":        {map[string]string{"main.cf": relay + "smtpd_client_restrictions = reject_the_moon\n"}, "this restriction is not evaluated"},
		"a policy":       {map[string]string{"main.cf": relay + "smtpd_recipient_restrictions = check_policy_service unix:private/policy, reject\n"}, "it asks another program"},
		"a black list":   {map[string]string{"main.cf": relay + "smtpd_client_restrictions = reject_rbl_client zen.test\n"}, "reject_rbl_client zen.test"},
		"twice":          {map[string]string{"main.cf": relay + "smtpd_client_restrictions = hash:x\n", "x": "10.1.1.1 OK\n10.1.1.1 REJECT\n"}, "the key is there on line 1 already"},
		"too large":      {map[string]string{"main.cf": relay + "message_size_limit = 0\n"}, "at most 150000000 octets"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Postfix(directory(tt.files), Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range r.Untranslated() {
				if strings.Contains(l.Text+": "+l.Why, tt.want) {
					return
				}
			}
			t.Errorf("no row says %q:\n%s", tt.want, printed(r))
		})
	}
	if _, err := Postfix(directory(nil), Options{}); err == nil || !strings.Contains(err.Error(), "/etc/postfix") {
		t.Errorf("an empty directory: %v", err)
	}
}

// Names come from the options, else from the files, else from the address.
func TestNames(t *testing.T) {
	names, err := ReadHosts("hosts", strings.NewReader("# the zone\n10.1.1.1 A.campus.test. a # x\n10.1.1.2 b.campus.test\n10.1.1.9 old.campus.test\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Postfix(directory(map[string]string{
		"main.cf": "mynetworks = cidr:n\nsmtpd_relay_restrictions = permit_mynetworks, reject\nsmtpd_client_restrictions = hash:names\n",
		"n":       "# wrong.campus.test\n10.1.1.1 x\n10.1.1.2 x\n# c.campus.test, third floor\n10.1.1.3 x\n10.1.1.4 d.campus.test\n10.1.1.5 x\n2001:db8::1 x\n# c.campus.test\n10.1.1.6 x\n",
		"names":   "old.campus.test OK\n",
	}), Options{Domain: "devices.test", Names: names})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.Entries.Devices {
		got = append(got, d.Name+" "+concernsDevice(d))
	}
	want := "a.campus.test 10.1.1.1|b.campus.test 10.1.1.2|c.campus.test 10.1.1.3 10.1.1.6|d.campus.test 10.1.1.4|host-10-1-1-5.devices.test 10.1.1.5|host-2001-0db8-0000-0000-0000-0000-0000-0001.devices.test 2001:db8::1"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("names\n%s, want\n%s", s, want)
	}
	if !strings.Contains(printed(r), "register it: postrider device request old.campus.test --address 10.1.1.9") {
		t.Errorf("a client by name:\n%s", printed(r))
	}
	if r.Hints.MadeUp != 2 || !strings.Contains(r.Hints.YAML(), "fcrdns: off") {
		t.Errorf("%d names are made up:\n%s", r.Hints.MadeUp, r.Hints.YAML())
	}
	if _, err := ReadHosts("hosts", strings.NewReader("10.1.1 x\n")); err == nil {
		t.Error("a line that is no address and name is read")
	}
}
