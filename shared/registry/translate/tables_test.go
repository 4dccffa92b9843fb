package translate

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

func TestCSV(t *testing.T) {
	const table = "\ufeffName;Addresses;Owner;Contacts;Scope;Senders;Size;PHI;Room\n" +
		"prn-1.campus.test;10.2.3.4 10.2.3.8-10.2.3.11;chem;it@campus.test;hosted;scan@campus.test;5MB;yes;B 101\n" +
		";10.2.3.5;;;;;;;\n" +
		"prn-1.campus.test;10.2.3.6;;;;;;;\n" +
		"prn-3.campus.test;10.2.3.4;;;;;;;\n" +
		"prn-4.campus.test;10.2.3.300;;;nowhere;;;maybe;\n" +
		"prn-5.campus.test;0.0.0.0/0;;;;*@campus.test;;;\n" +
		"\"prn-6.campus.test\n\";10.2.3.7;;;;;;;;more\n"
	r, err := CSV("devices.csv", strings.NewReader(table), Options{Domain: "devices.test"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/csv.golden", printed(r))
	if len(r.Entries.Devices) != 2 || r.Entries.Devices[1].Name != "host-10-2-3-5.devices.test" {
		t.Errorf("devices: %s", entries(t, r))
	}
	d := r.Entries.Devices[0]
	if d.Limits.Size != 5_000_000 || !d.PHI || d.Scope != registry.ScopeHosted || len(d.Addresses) != 2 || d.State != registry.StateActive {
		t.Errorf("the first: %+v", d)
	}
	for n := 1; n <= strings.Count(table, "\n"); n++ {
		if !hasRow(r, "devices.csv", n) {
			t.Errorf("line %d is not in the account", n)
		}
	}
	for _, bad := range []string{"", "a,b\n1,2\n", "name\n\"x"} {
		if _, err := CSV("x", strings.NewReader(bad), Options{}); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestYAML(t *testing.T) {
	r, err := YAML("d.yaml", strings.NewReader("devices:\n  - {name: a.campus.test, addresses: [10.1.1.1]}\ndomains: {hosted: [{name: campus.test, route: \"smtp://mx.campus.test\"}]}\nnetworks: {campus: [10.0.0.0/8]}\nlimits: {recipients: 5}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Entries.Devices) != 1 || len(r.Entries.Domains) != 1 || len(r.Entries.Networks) != 1 || r.Entries.Devices[0].State != registry.StateActive || r.Entries.Devices[0].Origin != "" {
		t.Errorf("entries: %s", entries(t, r))
	}
	if left := r.Untranslated(); len(left) != 1 || left[0].Text != "limits" {
		t.Errorf("left over: %+v", left)
	}
	r, err = YAML("d.yaml", strings.NewReader("devices:\n  - {name: a.campus.test, adresses: [10.1.1.1]}\n"), Options{})
	if err != nil || len(r.Entries.Devices) != 0 {
		t.Errorf("with a fault: %v, %s", err, entries(t, r))
	}
	if left := r.Untranslated(); len(left) != 2 || left[1].First != 2 || !strings.Contains(left[1].Why, "addresses") {
		t.Errorf("the fault: %+v", left)
	}
}

// FuzzPostfix: no file makes the translation fail or admit without a registration
// that can be checked.
func FuzzPostfix(f *testing.F) {
	f.Add("mynetworks = 10.0.0.0/8, !10.1.0.0/16 cidr:t\nsmtpd_relay_restrictions = permit_mynetworks, hash:t, reject\nx = ${y?{a}:{b}} $$ ${{a} == {b} ? {c} : {d}}", "if 10.0.0.0/8\n10.1.1.1 OK\nendif\n/^10\\.1\\./ REJECT\n10.1 x, permit\n")
	f.Fuzz(func(t *testing.T, main, table string) {
		for _, kind := range []string{"hash", "pcre"} {
			r, err := Postfix(directory(map[string]string{"main.cf": strings.ReplaceAll(main, "hash:", kind+":"), "t": table}), Options{Domain: "x.test"})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.Entries.Devices {
				for _, fault := range d.Check() {
					t.Errorf("%s: %s", d, fault)
				}
			}
			_ = r.Hints.YAML()
		}
	})
}

// FuzzExchange: no text makes the reading fail otherwise than with an error.
func FuzzExchange(f *testing.F) {
	f.Add("Name : A\nRemoteIPRanges : {10.1.1.1-10.1.1.9, ::1}\nBindings : {[::]:25}\n")
	f.Add(`[{"Name": "A", "RemoteIPRanges": [{"LowerBound": {"Address": 1}}]}]`)
	f.Add(`<Objs><Obj RefId="0"><Props><S N="RemoteIPRanges">10.1.1.1</S><Ref N="Bindings" RefId="0"/></Props></Obj></Objs>`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Exchange("x", strings.NewReader(text), Options{Domain: "x.test"})
		if err == nil && len(r.Lines) == 0 {
			t.Error("nothing is said")
		}
	})
}
