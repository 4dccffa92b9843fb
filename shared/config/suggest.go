package config

import (
	"fmt"
	"reflect"
	"strings"
)

// didYouMean is `; did you mean "x"?` for the candidate that s is most likely
// a misspelling of, and empty when none is close.
func didYouMean(s string, candidates []string) string {
	if best := closest(s, candidates); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

// closest is the candidate within the distance that a slip of the finger
// makes, or the only one that s abbreviates.
func closest(s string, candidates []string) string {
	s = strings.ReplaceAll(strings.ToLower(s), "-", "_")
	if strings.Trim(s, "0123456789.") == "" {
		return "" // a number is wrong, not misspelt
	}
	best, bestDistance := "", 1+slips(s)
	for _, c := range candidates {
		if d := distance(s, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best != "" || len(s) < 3 {
		return best
	}
	for _, c := range candidates {
		if !strings.HasPrefix(c, s) {
			continue
		}
		if best != "" {
			return ""
		}
		best = c
	}
	return best
}

// slips is how many mistakes are believed in a word.
func slips(s string) int {
	switch n := len(s); {
	case n < 3:
		return 0
	case n < 6:
		return 1
	case n < 12:
		return 2
	default:
		return 3
	}
}

// distance counts insertions, deletions, substitutions and exchanged
// neighbours (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	var before, last, row [65]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// keysOf are the keys of a struct, in the order of its fields.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if key := keyOf(t.Field(i)); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// keyOf is the key of a field; empty when it is not read from the file.
func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "-" || !f.IsExported() {
		return ""
	}
	return key
}

// elsewhere are the paths under root at which a key is valid, lists as "[]".
func elsewhere(root reflect.Type, path, key string) []string {
	var found []string
	switch root.Kind() {
	case reflect.Pointer:
		return elsewhere(root.Elem(), path, key)
	case reflect.Slice:
		return elsewhere(root.Elem(), path+"[]", key)
	case reflect.Struct:
		for i := range root.NumField() {
			field := root.Field(i)
			own := keyOf(field)
			if own == "" {
				continue
			}
			if own == key {
				found = append(found, member(path, own))
			}
			found = append(found, elsewhere(field.Type, member(path, own), key)...)
		}
	}
	return found
}
