package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds the dependency rules of the house (docs/ARCHITECTURE.md).
// Run it with -count=1: the go command is outside the test's cache.
func TestImports(t *testing.T) {
	const ours = "github.com/postrider/postrider/"
	packages := list(t)
	if len(packages) < 20 {
		t.Fatalf("only %d packages listed", len(packages))
	}
	for _, p := range packages {
		from, ok := strings.CutPrefix(p.ImportPath, ours)
		if !ok {
			continue
		}
		for _, to := range p.Imports {
			inner, isOurs := strings.CutPrefix(to, ours)
			switch {
			case isOurs:
				if why := forbidden(from, inner); why != "" {
					t.Errorf("%s imports %s: %s", from, inner, why)
				}
			case strings.Contains(strings.Split(to, "/")[0], "."):
				if why := foreign(from, to); why != "" {
					t.Errorf("%s imports %s: %s", from, to, why)
				}
			}
		}
	}
}

// pure packages import the standard library and the packages named.
var pure = map[string][]string{
	"shared/smtp":  {},
	"shared/mail":  {"shared/smtp"},
	"shared/authz": {"shared/smtp", "shared/mail", "shared/registry"},
	"shared/event": {"shared/smtp", "shared/mail", "shared/authz"},
}

// forbidden says why one of our packages must not import another.
func forbidden(from, to string) string {
	if allowed, ok := pure[from]; ok {
		for _, a := range allowed {
			if a == to {
				return ""
			}
		}
		return "words and decisions import only " + strings.Join(allowed, ", ")
	}
	switch {
	case root(from) == "shared" && root(to) != "shared":
		return "shared imports no one outside shared"
	case root(from) == "shared" && to == "shared/service" && from != "shared/service":
		return "nothing in shared imports service"
	case root(from) == "services" && root(to) == "services" && service(from) != service(to):
		return "a service imports shared and itself, never another service"
	case root(from) == "services" && root(to) != "shared" && root(to) != "services":
		return "a service imports shared and itself"
	case testKit(to) && !testKit(from) && root(from) != "test" && from != "cmd/mxsink" && !(from == "cmd/postrider" && to == "shared/smtptest"):
		return "the test kit is for tests, mxsink and the sandbox's mailbox"
	case to == "shared/natsd" && root(from) != "test" && !testKit(from) && from != "cmd/postrider" && from != "shared/service":
		return "only the people's program embeds a server"
	case root(from) == "loadtest" && root(to) != "loadtest":
		return "loadtest is a witness: it shares no code with the product"
	}
	return ""
}

// drivers are the modules that few packages may import, so that they can be
// replaced in one place.
var drivers = map[string][]string{
	"github.com/nats-io/nats-server/v2": {"shared/natsd", "test/world"},
	"github.com/miekg/dns":              {"shared/dnsx", "shared/dnstest"},
	"github.com/emersion/go-smtp":       {"services/ingress", "services/ingress/wire"},
	"github.com/emersion/go-msgauth":    {}, // verifies, in tests
	"github.com/goccy/go-yaml":          {"shared/config", "shared/registry/document"},
	"github.com/emersion/go-milter":     {"services/policy/scan"},
	"github.com/jcmturner/gokrb5":       {"services/ingress/authority"},
	"github.com/go-ldap/ldap":           {"shared/directory", "services/ingress/authority", "services/policy/standing"},
	"modernc.org/sqlite":                {"services/ledger"},
	"github.com/nats-io/nats.go":        {"shared/queue", "shared/registry/store", "shared/budget", "shared/books", "services/delivery", "services/ledger", "shared/mailbox", "cmd/postrider"},
}

// foreign says why a package must not import a third party's.
func foreign(from, to string) string {
	if _, ok := pure[from]; ok {
		return "words and decisions import the standard library only"
	}
	for module, users := range drivers {
		if to != module && !strings.HasPrefix(to, module+"/") {
			continue
		}
		for _, u := range users {
			if u == from {
				return ""
			}
		}
		return "only " + strings.Join(users, ", ") + " may"
	}
	return ""
}

func root(p string) string { return strings.Split(p, "/")[0] }

func service(p string) string { return strings.Split(p, "/")[1] }

func testKit(p string) bool {
	return p == "shared/smtptest" || p == "shared/dnstest" || p == "shared/queuetest" || p == "shared/timetest" || p == "shared/porttest"
}

// TestImportRules shows that the rules can say no.
func TestImportRules(t *testing.T) {
	for _, tt := range [][2]string{
		{"services/policy", "services/ingress"}, {"shared/smtp", "shared/mail"}, {"shared/queue", "shared/service"},
		{"services/signer", "shared/dnstest"}, {"shared/config", "services/bounce"}, {"services/bounce", "shared/natsd"}, {"loadtest", "shared/smtp"},
	} {
		if forbidden(tt[0], tt[1]) == "" {
			t.Errorf("%s may import %s", tt[0], tt[1])
		}
	}
	if foreign("services/policy", "github.com/miekg/dns") == "" || foreign("shared/mail", "github.com/rs/zerolog") == "" {
		t.Error("third parties may be imported anywhere")
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "work")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
