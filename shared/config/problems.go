package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a configuration, or worth knowing.
type Problem struct {
	// File is as it was named; empty for a Config made by a program.
	File string
	// Line and Column count from 1; 0 where the whole file is meant.
	Line, Column int
	// Key is the path of the key, as "listeners[0].address"; it may be empty.
	Key string
	// Text says what is wrong and what to write instead. It never quotes a
	// credential.
	Text string
}

// String is "file:line:column: text".
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is an error that lists everything found, in the order of the file.
type Problems []Problem

// maxShown bounds the text of an error about a file that is wrong throughout.
const maxShown = 100

// Error is one line for each problem.
func (ps Problems) Error() string {
	var lines []string
	for i, p := range ps {
		if i == maxShown {
			lines = append(lines, fmt.Sprintf("… and %d more", len(ps)-maxShown))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// position is a place in the file; both count from 1.
type position struct{ line, column int }

// positions are the places of the keys that were written, by path.
type positions map[string]position

// of is the place of a key, or of the nearest key around it that was written.
func (ps positions) of(path string) position {
	for path != "" {
		if p, ok := ps[path]; ok {
			return p
		}
		path = parent(path)
	}
	return position{}
}

// parent is the path one step up: "a[0].b", "a[0]", "a", "".
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// member is the path of a key within a mapping.
func member(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// item is the path of an entry of a list.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// quote shows a value of the file in a message, bounded.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}
