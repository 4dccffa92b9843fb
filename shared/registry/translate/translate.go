// Package translate brings registrations from elsewhere into the registry: from
// a table ([CSV]), from a YAML document ([YAML]), from a copy of a Postfix
// configuration directory ([Postfix]) and from an export of Exchange receive
// connectors ([Exchange]).
//
// It consumes files, as fs.FS or io.Reader, and performs no other I/O: no
// network, no look-up. It produces a [Result]: entries of the registry, hints for
// the configuration file, and an account of every line of the input.
//
// Guarantees:
//
//   - Nothing is dropped without a word: every line is in the account, as
//     translated, as without meaning here (and why), or as left over (why, whom
//     it concerns, and what to do about it).
//   - The same input gives the same result.
//   - What an address may is evaluated, not guessed: for every address range that
//     Postfix or Exchange names, the rules there are followed in their order, and
//     the entries say the same (package comment of spans.go). A rule that rests
//     on anything but the client's address is left over, or becomes a block of a
//     sender where that says the same.
//   - Whom the input admits by anything but an address is not admitted here. A
//     restriction that cannot be evaluated counts as one that refuses nobody, and
//     is left over: what it would refuse is refused here only by rules of our own.
//   - No secret is quoted.
//
// Limits: input files of at most 16 MiB each. A client's name is no address: a
// rule by name is taken over only where the names are given ([Options]).
package translate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/postrider/postrider/shared/registry"
)

// Fate is what became of a line of the input.
type Fate string

// The fates of a line.
const (
	Translated   Fate = "translated"
	Meaningless  Fate = "without-meaning" // here nothing corresponds to it, and nothing needs to
	Untranslated Fate = "untranslated"    // somebody must look at it
)

// What Concerns may be besides an address, a sender, a recipient or a login.
const (
	Everybody = "*"       // the answer to any sender may be another
	Unnamed   = "unnamed" // that to an address that the input does not name
)

// Line is one line of the input, and what became of it. One line may have
// several, where only a part of it was translated.
type Line struct {
	File string `json:"file"`
	// First and Last are the numbers of its lines; 0 is a file as a whole, or
	// what the file does not say.
	First int `json:"line"`
	Last  int `json:"last_line,omitempty"`
	// Text is the line, shortened, without secrets.
	Text string `json:"text"`
	Fate Fate   `json:"fate"`
	// Why is what it became, or why it did not become anything.
	Why string `json:"why"`
	// Do is what to do about it; only of what is untranslated.
	Do string `json:"do,omitempty"`
	// Concerns is whom an untranslated line may answer differently here: an
	// address or range, a sender or recipient or their domain (".domain" for its
	// subdomains), a login, Everybody or Unnamed; several are separated by spaces. Empty:
	// no answer to a sender.
	Concerns string `json:"concerns,omitempty"`
}

// Result is what was made of the input.
type Result struct {
	// Entries are those for the registry, active, and not yet stamped.
	Entries registry.Entries
	// Hints are for the configuration file.
	Hints Hints
	// Lines is the account of the input, in its order.
	Lines []Line
}

// Untranslated are the lines that somebody must look at.
func (r *Result) Untranslated() []Line {
	var out []Line
	for _, l := range r.Lines {
		if l.Fate == Untranslated {
			out = append(out, l)
		}
	}
	return out
}

// Options say what the input does not.
type Options struct {
	// Domain is the parent of the names that are made up for addresses without
	// one. Empty: the input's own domain, where it has one.
	Domain string
	// Names are those of addresses, from the reverse zones or a hosts file.
	Names map[netip.Addr]string
	// Dir is where the Postfix directory lay, where that is not /etc/postfix.
	Dir string
	// Anywhere are the Exchange connectors that have the right
	// ms-Exch-SMTP-Accept-Any-Recipient for anonymous users, which their export
	// does not show.
	Anywhere []string
}

// ErrNoDomain says that a name has to be made up, and nobody said in which
// domain.
var ErrNoDomain = errors.New("the input names no domain for devices that have only an address: say which")

// maxInput bounds one file, in octets.
const maxInput = 16 << 20

func readAll(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("read %s: it is larger than %d octets", name, maxInput)
	}
	return text, nil
}

// sheet collects the account.
type sheet struct{ lines []Line }

// place is where a line stands.
type place struct {
	file        string
	first, last int
	text        string
}

func (s *sheet) add(at place, fate Fate, why, do, concerns string) {
	const most = 200
	text := []rune(at.text)
	if len(text) > most {
		text = append(text[:most:most], '…')
	}
	s.lines = append(s.lines, Line{at.file, at.first, at.last, string(text), fate, why, do, concerns})
}

func (s *sheet) translated(at place, why string)  { s.add(at, Translated, why, "", "") }
func (s *sheet) meaningless(at place, why string) { s.add(at, Meaningless, why, "", "") }
func (s *sheet) left(at place, concerns, why, do string) {
	s.add(at, Untranslated, why, do, concerns)
}

// sorted is the account in the order of files and lines, each row once.
func (s *sheet) sorted() []Line {
	slices.SortStableFunc(s.lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.First, b.First))
	})
	return slices.Compact(s.lines)
}
