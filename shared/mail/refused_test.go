package mail

import (
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/smtp"
)

func TestRefused(t *testing.T) {
	const ref = Ref("R7K2-9QF3")
	help := "https://relay.campus.test"
	for _, c := range []struct{ name, text, help, want string }{
		{"short", "No.", help, "R7K2-9QF3 No. https://relay.campus.test/w/R7K2-9QF3"},
		{"no help", "No.", "", "R7K2-9QF3 No."},
		{"an address for help", "No.", "help@campus.test", "R7K2-9QF3 No. Help: help@campus.test"},
		{"long text is cut", strings.Repeat("x", 500), help, "R7K2-9QF3 " + strings.Repeat("x", 136) + "... https://relay.campus.test/w/R7K2-9QF3"},
		{"help that leaves no room", "No.", "https://" + strings.Repeat("h", 150), "R7K2-9QF3 No."},
	} {
		got := ref.Refused(smtp.Reply{Code: 550, Enhanced: "7.1", Text: c.text}, c.help)
		if got.Text != c.want || len(got.String())+len("\r\n") > MaxRefusal {
			t.Errorf("%s: %q of %d octets", c.name, got.Text, len(got.String())+2)
		}
	}
}

// A reference is found however a person brings it, and where it was misread the
// one that it was is among those found.
func TestFindRefs(t *testing.T) {
	ref := refWith(t, "D8B5")
	plain := strings.ReplaceAll(string(ref), "-", "")
	for _, text := range []string{
		string(ref), strings.ToLower(string(ref)), plain,
		"550 5.7.1 " + string(ref) + " Not registered: 10.2.3.4. https://relay.campus.test/w/" + string(ref),
		"550 5.7.1 " + plain[:4] + "-\n" + plain[4:] + " Not\nregis",
		"reference " + plain[:4] + " " + plain[4:] + ", he said",
		"<" + plain[:4] + "\u2013" + plain[4:] + ">",
	} {
		if got := FindRefs(text); len(got) == 0 || got[0] != ref {
			t.Errorf("%q: found %v", text, got)
		}
	}
	for _, wrong := range []string{
		strings.Replace(string(ref), "D", "0", 1), strings.Replace(string(ref), "D", "O", 1), strings.Replace(string(ref), "8", "B", 1),
		strings.NewReplacer("D", "0", "5", "S").Replace(string(ref)),
	} {
		if _, err := ParseRef(wrong); err == nil {
			t.Fatalf("%s has a right check digit", wrong)
		}
		got := FindRefs("550 5.7.1 " + wrong + " Not registered")
		if !slices.Contains(got, ref) {
			t.Errorf("%s: found %v, not %s", wrong, got, ref)
		}
		for _, r := range got {
			if _, err := ParseRef(string(r)); err != nil {
				t.Errorf("%s: %s is no reference", wrong, r)
			}
		}
	}
	for _, text := range []string{"", "550 5.7.1 relaying denied", "PRINTERS", "mail from", "X000-0000", "10.2.3.4"} {
		if got := FindRefs(text); len(got) > 0 {
			t.Errorf("%q: found %v", text, got)
		}
	}
}

// refWith is a reference that begins so, and has the only D, 8, B and 5 there.
func refWith(t *testing.T, prefix string) Ref {
	t.Helper()
	const rest = "KMC"
	b := []byte(prefix + rest)
	r, err := ParseRef(string(append(b, refCheck(b))))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
