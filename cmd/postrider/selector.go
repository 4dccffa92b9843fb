package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// A selector chooses jobs: "domain:example.org older:2h state:deferred
// device:prn-* owner:chem". All terms must hold, "-term" excludes, a bare word
// is a queue id, and of several ids one must hold. It chooses nothing by
// default: everything needs --all.
type selector struct {
	terms []term
	ids   map[string]bool // plain ids; there may be many, from stdin
	all   bool
}

type term struct {
	key, value string
	exclude    bool
	age        time.Duration
	pattern    *regexp.Regexp
}

// selectorKeys are the keys of the language, with what each compares.
var selectorKeys = map[string]string{
	"id": "queue id", "domain": "recipient domain", "sender": "reverse-path", "recipient": "forward-path",
	"state": "ready, deferred or held", "device": "device", "owner": "owner", "class": "class",
	"older": "accepted longer ago than", "younger": "accepted less long ago than", "reason": "text of the last reply",
}

// excluding prepares the arguments of the program: a word that excludes begins
// like a flag, and is passed on with "!" instead.
func excluding(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		word, negative := strings.CutPrefix(arg, "-")
		key, _, isTerm := strings.Cut(word, ":")
		_, known := selectorKeys[key]
		known = known || isDeviceKey(key)
		_, err := mail.ParseQueueID(word)
		if negative && (isTerm && known || err == nil) {
			out[i] = "!" + word
		}
	}
	return out
}

// parseSelector reads the words of a selector; one may hold several terms, as
// from a quoted selector.
func parseSelector(words []string, all bool) (*selector, error) {
	s := &selector{all: all, ids: map[string]bool{}}
	for _, text := range words {
		for _, word := range termsOf(text) {
			t, err := parseTerm(word)
			if err != nil {
				return nil, err
			}
			if t.key == "id" && !t.exclude && !strings.ContainsAny(t.value, "*?") {
				s.ids[t.value] = true
				continue
			}
			s.terms = append(s.terms, t)
		}
	}
	if all && !s.empty() {
		return nil, usage("--all and a selector contradict each other; give one of them")
	}
	return s, nil
}

// termsOf splits an argument that holds several terms. Words after a reason
// belong to it until the next word with a key: reason:"no mail server".
func termsOf(text string) []string {
	var terms []string
	for _, word := range strings.Fields(text) {
		last := len(terms) - 1
		if last >= 0 && strings.HasPrefix(strings.TrimPrefix(terms[last], "-"), "reason:") && !strings.Contains(word, ":") {
			terms[last] += " " + word
			continue
		}
		terms = append(terms, word)
	}
	return terms
}

func parseTerm(word string) (t term, err error) {
	bare := strings.TrimLeft(word, "-!")
	t.exclude = len(word) == len(bare)+1
	key, value, ok := strings.Cut(bare, ":")
	if !ok {
		key, value = "id", bare
	}
	if _, known := selectorKeys[key]; !known || len(word) > len(bare)+1 {
		return t, usage("%q: unknown key in the selector; keys: %s", word, strings.Join(keysOfSelector(), " "))
	}
	if value == "" {
		return t, usage("%q: %s has no value", word, key)
	}
	t.key, t.value = key, strings.ToLower(value)
	switch key {
	case "older", "younger":
		d, err := config.ParseDuration(value)
		if err != nil {
			return t, usage("%s: %w", key, err)
		}
		t.age = time.Duration(d)
		return t, nil
	case "state":
		if t.value != "ready" && t.value != "deferred" && t.value != "held" {
			return t, usage("state: is ready, deferred or held, not %q", value)
		}
	case "id":
		t.value = strings.ToUpper(value)
		if id, err := mail.ParseQueueID(value); err == nil {
			t.value = string(id)
		}
	}
	if t.pattern, err = glob(t.value); err != nil {
		return t, usage("%s: %q is no pattern", key, value)
	}
	return t, nil
}

// glob is an expression that matches like a pattern with * and ?, in any case.
func glob(pattern string) (*regexp.Regexp, error) {
	wild := strings.NewReplacer(`\*`, ".*", `\?`, ".")
	return regexp.Compile("(?is)^" + wild.Replace(regexp.QuoteMeta(pattern)) + "$")
}

func keysOfSelector() []string {
	var keys []string
	for k := range selectorKeys {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s *selector) empty() bool { return len(s.terms) == 0 && len(s.ids) == 0 }

// chosen says why nothing would be chosen, for commands that change things.
func (s *selector) chosen() error {
	if s.empty() && !s.all {
		return usage("say which: a selector such as domain:example.org, or --all")
	}
	return nil
}

// matches reports whether every term holds for a job. Ids are alternatives to
// each other.
func (s *selector) matches(e queue.JobEntry, now time.Time) bool {
	byID := len(s.ids) > 0
	named := s.ids[string(e.Job.QueueID)] || s.ids[e.Job.ID]
	for _, t := range s.terms {
		holds := t.holds(e, now)
		switch {
		case t.key == "id" && !t.exclude:
			byID, named = true, named || holds
		case holds == t.exclude:
			return false
		}
	}
	return named || !byID
}

func (t term) holds(e queue.JobEntry, now time.Time) bool {
	j := e.Job
	switch t.key {
	case "older":
		return now.Sub(j.AcceptedAt) > t.age
	case "younger":
		return now.Sub(j.AcceptedAt) < t.age
	case "state":
		return t.value == stateOf(e)
	case "id":
		return t.pattern.MatchString(string(j.QueueID)) || t.pattern.MatchString(j.ID)
	case "domain":
		return slices.ContainsFunc(destinationsOf(e), t.pattern.MatchString)
	case "sender":
		return t.pattern.MatchString(sender(j.Env.ReversePath.String()))
	case "recipient":
		return slices.ContainsFunc(recipientsOf(e), t.pattern.MatchString)
	case "device":
		return t.pattern.MatchString(j.Device)
	case "owner":
		return t.pattern.MatchString(j.Owner)
	case "class":
		return t.pattern.MatchString(string(j.Class))
	case "reason":
		return strings.Contains(strings.ToLower(j.LastReply), t.value)
	}
	return false
}

func stateOf(e queue.JobEntry) string {
	switch {
	case isHeld(e):
		return "held"
	case e.Deferred():
		return "deferred"
	}
	return "ready"
}

func recipientsOf(e queue.JobEntry) []string {
	var out []string
	for _, r := range e.Job.Env.Recipients {
		out = append(out, r.Address.String())
	}
	return out
}

// selectorHelp is the part of a command's help that explains the language.
var selectorHelp = fmt.Sprintf("Selector: words such as domain:example.org older:2h state:deferred owner:chem.\nAll must hold, -word excludes, * and ? match, a bare word is a queue id;\nof several ids one must hold.\nKeys: %s", strings.Join(keysOfSelector(), " "))
