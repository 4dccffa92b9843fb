// Package postfixconf reads the files of a Postfix configuration directory as
// text: main.cf, master.cf, and the source form of lookup tables. It says what
// is written there, and where; what it means for mail is for the caller.
//
// It consumes the content of files and performs no I/O. It produces parameters,
// services and table entries, each with its file, its lines and its text.
//
// Guarantees: every logical line of a file is in the result, also one that
// cannot be read (Fault). Nothing is taken from the machine that it runs on:
// what is not set has the default of Postfix, without its built-in paths.
//
// Limits: of conditional expressions in values ${name?x}, ${name:x} and
// ${{a} op {b} ? {x} : {y}} are known. Tables that are not files (ldap, mysql,
// tcp and others) cannot be read. BUGS: a pattern of a regular expression is
// kept as text, with its flags.
package postfixconf

import (
	"strings"
)

// Place is a logical line: what it says, and where.
type Place struct {
	File string
	// First and Last are its physical lines, from 1.
	First, Last int
	// Text is the logical line on one line.
	Text string
	// Comment is the comment directly above, without its sign.
	Comment string
}

// logical takes a file apart into logical lines: one that begins with white
// space continues the one before, also over comments and blank lines.
func logical(file string, text []byte) []Place {
	var out []Place
	comment := ""
	for i, line := range strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n") {
		bare := strings.TrimSpace(line)
		switch {
		case bare == "":
			comment = ""
		case bare[0] == '#':
			comment = strings.TrimSpace(strings.TrimLeft(bare, "#"))
		case (line[0] == ' ' || line[0] == '\t') && len(out) > 0:
			last := &out[len(out)-1]
			last.Last, last.Text = i+1, last.Text+" "+bare
		default:
			out = append(out, Place{File: file, First: i + 1, Last: i + 1, Text: bare, Comment: comment})
			comment = ""
		}
	}
	return out
}

// Fields splits a list at commas and white space; braces keep words together.
func Fields(value string) []string {
	var out []string
	depth, start := 0, -1
	for i, c := range value {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		apart := depth <= 0 && (c == ',' || c == ' ' || c == '\t' || c == '\n')
		switch {
		case apart && start >= 0:
			out, start = append(out, value[start:i]), -1
		case !apart && start < 0:
			start = i
		}
	}
	if start >= 0 {
		out = append(out, value[start:])
	}
	return out
}
