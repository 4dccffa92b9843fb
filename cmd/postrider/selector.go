package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queue"
)

// A selector chooses jobs: "domain:example.org older:2h state:deferred
// device:prn-* owner:chem". All terms must hold, "-term" excludes, a bare word
// is a queue id, and of several ids one must hold. It chooses nothing by default: everything needs --all.
type selector struct {
	terms []term
	all   bool
}

type term struct {
	key, value string
	exclude    bool
	age        time.Duration
}

// selectorKeys are the keys of the language, with what each compares.
var selectorKeys = map[string]string{
	"id": "queue id", "domain": "recipient domain", "sender": "reverse-path", "recipient": "forward-path",
	"state": "ready or deferred", "device": "device", "owner": "owner", "class": "class",
	"older": "accepted longer ago than", "younger": "accepted less long ago than", "reason": "text of the last reply",
}

// parseSelector reads the words of a selector.
func parseSelector(words []string, all bool) (*selector, error) {
	s := &selector{all: all}
	for _, word := range slices.Concat(fieldsOf(words)...) {
		t, err := parseTerm(word)
		if err != nil {
			return nil, err
		}
		s.terms = append(s.terms, t)
	}
	if all && len(s.terms) > 0 {
		return nil, usage("--all and a selector contradict each other; give one of them")
	}
	return s, nil
}

// fieldsOf splits words that hold several terms, as from a quoted selector.
func fieldsOf(words []string) [][]string {
	var out [][]string
	for _, w := range words {
		out = append(out, strings.Fields(w))
	}
	return out
}

func parseTerm(word string) (term, error) {
	t := term{}
	word, t.exclude = strings.CutPrefix(word, "-")
	key, value, ok := strings.Cut(word, ":")
	if !ok {
		key, value = "id", strings.ToUpper(word)
	}
	if _, known := selectorKeys[key]; !known {
		return t, usage("unknown key %q in the selector; keys: %s", key, strings.Join(keysOfSelector(), " "))
	}
	if value == "" {
		return t, usage("%s: has no value", key)
	}
	t.key, t.value = key, strings.ToLower(value)
	switch key {
	case "older", "younger":
		d, err := config.ParseDuration(value)
		if err != nil {
			return t, usage("%s: %w", key, err)
		}
		t.age = time.Duration(d)
	case "state":
		if t.value != "ready" && t.value != "deferred" {
			return t, usage("state: is ready or deferred, not %q", value)
		}
	default:
		if _, err := path.Match(t.value, ""); err != nil {
			return t, usage("%s: %q is no pattern", key, value)
		}
	}
	return t, nil
}

func keysOfSelector() []string {
	var keys []string
	for k := range selectorKeys {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// chosen says why nothing would be chosen, for commands that change things.
func (s *selector) chosen() error {
	if len(s.terms) == 0 && !s.all {
		return usage("say which: a selector such as domain:example.org, or --all")
	}
	return nil
}

// matches reports whether every term holds for a job. Queue ids that are
// given as words are alternatives to each other.
func (s *selector) matches(e queue.JobEntry, now time.Time) bool {
	ids, named := 0, false
	for _, t := range s.terms {
		holds := t.holds(e, now)
		if t.key == "id" && !t.exclude {
			ids++
			named = named || holds
			continue
		}
		if holds == t.exclude {
			return false
		}
	}
	return ids == 0 || named
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
		return t.glob(string(j.QueueID)) || t.glob(j.ID)
	case "domain":
		return t.glob(j.Destination)
	case "sender":
		return t.glob(j.Env.ReversePath.String())
	case "recipient":
		return slices.ContainsFunc(recipientsOf(e), t.glob)
	case "device":
		return t.glob(j.Device)
	case "owner":
		return t.glob(j.Owner)
	case "class":
		return t.glob(string(j.Class))
	case "reason":
		return strings.Contains(strings.ToLower(j.LastReply), t.value)
	}
	return false
}

// glob matches with * and ?, in any case.
func (t term) glob(s string) bool {
	ok, err := path.Match(t.value, strings.ToLower(s))
	return ok && err == nil
}

func stateOf(e queue.JobEntry) string {
	if e.Deferred() {
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
