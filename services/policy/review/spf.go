package review

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider/shared/dnsx"
)

// TXT asks for the texts of a name.
type TXT interface {
	TXT(ctx context.Context, name string) (dnsx.TXTAnswer, error)
}

// maxLookups is the most terms of a policy, with what it includes, that cost
// queries (RFC 7208 §4.6.4); maxPolicies bounds a walk through policies that are
// wrong anyway.
const (
	maxLookups  = 10
	maxPolicies = 50
)

// errPolicy reports a policy that no receiver can use (RFC 7208 §2.6.7).
var errPolicy = errors.New("SPF policy is broken")

// walk is one reading of a domain's SPF policy, with what it includes.
type walk struct {
	dns     TXT
	want    string // the domain to be included, in lower case
	found   bool
	lookups int
	read    int             // policies
	within  map[string]bool // the policies that lead to where we are
}

// includes reports whether the SPF policy of a domain includes another one, and
// how many lookups it costs. It reads further than a receiver would, so that it
// can say by how much a policy is too long. The error is errPolicy, or that of the
// DNS.
func includes(ctx context.Context, dns TXT, domain, want string) (found bool, lookups int, err error) {
	w := &walk{dns: dns, want: strings.ToLower(strings.TrimSuffix(want, ".")), within: map[string]bool{}}
	err = w.policy(ctx, strings.ToLower(domain))
	if err == nil && w.lookups > maxLookups {
		err = fmt.Errorf("%w: it takes %d lookups, %d are allowed (RFC 7208 §4.6.4)", errPolicy, w.lookups, maxLookups)
	}
	return w.found, w.lookups, err
}

// policy reads the policy of one domain.
func (w *walk) policy(ctx context.Context, domain string) error {
	if w.within[domain] {
		return fmt.Errorf("%w: %s includes itself", errPolicy, domain)
	}
	if w.read++; w.read > maxPolicies {
		return fmt.Errorf("%w: it has more than %d parts", errPolicy, maxPolicies)
	}
	w.within[domain] = true
	defer delete(w.within, domain)
	record, err := w.record(ctx, domain)
	if err != nil {
		return err
	}
	redirect, all := "", false
	for _, term := range strings.Fields(record)[1:] {
		name, value := split(term)
		switch name {
		case "include":
			w.lookups++
			w.found = w.found || value == w.want
			if err := w.follow(ctx, value); err != nil {
				return err
			}
		case "a", "mx", "ptr", "exists":
			w.lookups++
		case "redirect":
			redirect = value
		case "all":
			all = true
		}
	}
	if redirect == "" || all { // RFC 7208 §6.1
		return nil
	}
	w.lookups++
	w.found = w.found || redirect == w.want
	return w.follow(ctx, redirect)
}

// follow reads an included policy. One whose name is made of macros depends on
// the message.
func (w *walk) follow(ctx context.Context, domain string) error {
	if strings.Contains(domain, "%") {
		return nil
	}
	return w.policy(ctx, domain)
}

// split takes a term apart: qualifier, name, and the domain without a prefix
// length, in lower case.
func split(term string) (name, value string) {
	term = strings.ToLower(strings.TrimLeft(term, "+-~?"))
	i := strings.IndexAny(term, ":=/")
	if i < 0 {
		return term, ""
	}
	value, _, _ = strings.Cut(strings.TrimLeft(term[i:], ":="), "/")
	return term[:i], strings.TrimSuffix(value, ".")
}

// record is the one SPF record of a domain (RFC 7208 §4.5).
func (w *walk) record(ctx context.Context, domain string) (string, error) {
	texts, err := w.dns.TXT(ctx, domain)
	if err != nil && !errors.Is(err, dnsx.ErrNotExist) && !errors.Is(err, dnsx.ErrNoData) {
		return "", fmt.Errorf("ask for SPF of %s: %w", domain, err)
	}
	found := ""
	for _, t := range texts.Texts {
		if l := strings.ToLower(t); l != "v=spf1" && !strings.HasPrefix(l, "v=spf1 ") {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("%w: %s has two", errPolicy, domain)
		}
		found = t
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s has none", errPolicy, domain)
	}
	return found, nil
}
