package review

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/postrider/postrider/shared/dnsx"
)

// dmarc is what a domain wants done with mail that is not from it (RFC 7489).
type dmarc struct {
	policy string // none, quarantine or reject; empty: it has no policy
	strict bool   // adkim=s
}

// readDMARC reads the policy for a From domain: its own, else that of its
// organisation (RFC 7489 §6.6.3).
func readDMARC(ctx context.Context, dns TXT, domain string) (dmarc, error) {
	org := organisation(domain)
	for _, name := range []string{domain, org} {
		texts, err := dns.TXT(ctx, "_dmarc."+name)
		if err != nil && !errors.Is(err, dnsx.ErrNotExist) && !errors.Is(err, dnsx.ErrNoData) {
			return dmarc{}, fmt.Errorf("ask for DMARC of %s: %w", name, err)
		}
		for _, t := range texts.Texts {
			if d, ok := parseDMARC(t, name != domain); ok {
				return d, nil
			}
		}
		if name == org {
			break
		}
	}
	return dmarc{}, nil
}

// parseDMARC reads a record. That of the organisation may say something else
// about the domains below it.
func parseDMARC(text string, below bool) (dmarc, bool) {
	tags := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		tags[strings.ToLower(strings.TrimSpace(name))] = strings.ToLower(strings.TrimSpace(value))
	}
	if tags["v"] != "dmarc1" {
		return dmarc{}, false
	}
	d := dmarc{policy: tags["p"], strict: tags["adkim"] == "s"}
	if sp := tags["sp"]; below && sp != "" {
		d.policy = sp
	}
	return d, true
}

// aligned reports that a signature of one domain speaks for another (RFC 7489
// §3.1.1).
func (d dmarc) aligned(signer, from string) bool {
	if strings.EqualFold(signer, from) {
		return true
	}
	return !d.strict && strings.EqualFold(organisation(signer), organisation(from))
}

// organisation is the organisational domain (RFC 7489 §3.2).
func organisation(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(domain))
	if err != nil {
		return strings.ToLower(domain)
	}
	return org
}
