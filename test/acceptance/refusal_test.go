package acceptance

import (
	"regexp"
	"strings"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/timetest"
)

// refusal holds every refusal of the suite to the same: its reference is within
// the first 20 characters of the text, it is short, it shows the client nothing
// that is not the client's own, and what it does not say is kept.
func (s *session) refusal(line string) {
	s.t.Helper()
	if len(line) >= 200 || !strings.HasSuffix(line, "\r\n") || line[3] != ' ' {
		s.t.Errorf("refusal of %d octets: %q", len(line), line)
	}
	text := strings.TrimSpace(line[4:])
	ref, ok := reference(text)
	if !ok {
		s.t.Errorf("no reference in the first 20 characters of %q", text)
		return
	}
	for _, leak := range s.leaks(text) {
		s.t.Errorf("refusal shows %q: %s", leak, text)
	}
	s.relay.mu.Lock()
	s.relay.refused[s.from]++
	many := s.relay.refused[s.from] > 20 // are counted, not kept one by one
	s.relay.mu.Unlock()
	if !s.quiet && !many {
		s.explained(ref)
	}
}

// reference is the one that the text begins with, behind the status.
func reference(text string) (mail.Ref, bool) {
	words := strings.Fields(text[:min(len(text), 20)])
	for _, w := range words[:min(len(words), 2)] {
		if ref, err := mail.ParseRef(w); err == nil {
			return ref, true
		}
	}
	return "", false
}

// told is a text without its reference and the link to the explanation.
func told(text string) string {
	ref, ok := reference(text)
	if !ok {
		return text
	}
	text = strings.Replace(text, string(ref)+" ", "", 1)
	return strings.TrimSuffix(text, " https://relay.campus.test/w/"+string(ref))
}

var (
	quads = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)
	hosts = regexp.MustCompile(`[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.test\b`)
)

// leaks are the addresses, host names and words of ours in a text, unless the
// client said them itself.
func (s *session) leaks(text string) (found []string) {
	said := strings.ToLower(s.said.String())
	foreign := func(word string) bool { return !strings.Contains(said, strings.ToLower(word)) }
	for _, a := range quads.FindAllString(text, -1) {
		if a != s.from && foreign(a) {
			found = append(found, a)
		}
	}
	for _, h := range hosts.FindAllString(text, -1) {
		if h != "relay.campus.test" && foreign(h) {
			found = append(found, h)
		}
	}
	for _, word := range internals(s.relay.Config.Relay.Data) {
		if strings.Contains(text, word) && foreign(word) {
			found = append(found, word)
		}
	}
	return found
}

// internals are words that are nobody's business: rules, keys, owners, files,
// what we are made of.
func internals(data string) []string {
	words := []string{data, "chemistry-department", "vendor", ".go:", ".yaml", "nats", "JetStream", "panic", "registry"}
	for _, r := range authz.Catalog() {
		for _, name := range []string{r.Name, r.Switch} {
			if strings.ContainsAny(name, "-._") {
				words = append(words, name)
			}
		}
	}
	return words
}

// explained waits for the evidence of a refusal, and wants of it what a person
// at a help desk needs: who, why, and what to do.
func (s *session) explained(ref mail.Ref) {
	s.t.Helper()
	var e event.Refusal
	timetest.Await(s.t, "evidence of "+string(ref), func() (known bool) {
		s.relay.mu.Lock()
		defer s.relay.mu.Unlock()
		e, known = s.relay.evidence[ref]
		return known
	})
	if e.Rule == "" || e.Facts.Address.String() != s.from || e.At.IsZero() || e.Count != 1 {
		s.t.Errorf("evidence of %s: %+v", ref, e)
	}
	if cause, known := e.Cause(); !known || cause.Fix == "" || e.Decidable() && e.Reason == "" {
		s.t.Errorf("rule %s has fix %q and reason %q", e.Rule, cause.Fix, e.Reason)
	}
}
