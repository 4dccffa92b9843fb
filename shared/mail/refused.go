package mail

import (
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

// Bounds of a refusal: what devices show of a reply, in octets of the whole
// line, and what the text needs to be of use.
const (
	MaxRefusal   = 199
	leastRefusal = 48
)

// Refused is a reply with the reference first, so that it survives a narrow
// panel, and what helps last: with a URL the page of the explanation, with
// anything else, such as an address of a help desk, that. A text that leaves no
// room is cut; help that leaves none for the text is left out.
func (r Ref) Refused(reply smtp.Reply, help string) smtp.Reply {
	room := MaxRefusal - len(smtp.Reply{Code: reply.Code, Enhanced: reply.Enhanced}.String()) - len(r) - len("  \r\n")
	link := ""
	switch {
	case strings.Contains(help, "://"):
		link = " " + help + "/w/" + string(r)
	case help != "":
		link = " Help: " + help
	}
	if room-len(link) < leastRefusal {
		link = ""
	}
	if room -= len(link); len(reply.Text) > room {
		reply.Text = reply.Text[:room-len("...")] + "..."
	}
	reply.Text = string(r) + " " + reply.Text + link
	return reply
}

// Referred is the reference that a text begins with, if it does.
func Referred(text string) (Ref, bool) {
	word, _, _ := strings.Cut(text, " ")
	if len(word) != len("R7K2-9QF3") {
		return "", false
	}
	r, err := ParseRef(word)
	return r, err == nil
}

// Shapes of references in a text, the surest first: with its hyphen, perhaps
// broken after it by a narrow display or one that has another hyphen; without;
// with a space.
var refShapes = [...]*regexp.Regexp{
	regexp.MustCompile(`(?i)\b([0-9A-Z]{4})(?:-\s*|[\x{2010}-\x{2015}\x{2212}_.])([0-9A-Z]{4})\b`),
	regexp.MustCompile(`(?i)\b([0-9A-Z]{4})([0-9A-Z]{4})\b`),
	regexp.MustCompile(`(?i)\b([0-9A-Z]{4})\s+([0-9A-Z]{4})\b`),
}

// maxMisread is how many characters of a reference may have been misread.
const maxMisread = 3

// FindRefs are the references in a text that a person pasted or typed, the
// likeliest first. One that the check digit calls wrong is read again with the
// characters that are taken for each other, such as 0 for D: what it may have
// been is listed. Without a hyphen, words of a language may look like
// references: only those with a digit count.
func FindRefs(text string) []Ref {
	var exact, misread []Ref
	for i, shape := range refShapes {
		for _, m := range shape.FindAllStringSubmatch(text, -1) {
			s := strings.ToUpper(m[1] + m[2])
			if i > 0 && !strings.ContainsAny(s, "0123456789") {
				continue
			}
			if r, err := ParseRef(s); err == nil {
				exact = append(exact, r)
				continue
			}
			misread = append(misread, reread([]byte(s), 0, maxMisread)...)
		}
	}
	var found []Ref
	for _, r := range append(exact, misread...) {
		if !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
	return found
}

// mistaken are the characters that one may stand for. 0, O, 1 and I are in no
// reference.
var mistaken = map[byte]string{
	'0': "DQ8", 'O': "DQ8", '1': "L7T", 'I': "L7T",
	'8': "B", 'B': "8", '5': "S", 'S': "5", '2': "Z", 'Z': "2", '6': "G", 'G': "6", 'U': "V", 'V': "U", 'D': "Q", 'Q': "D", '7': "T", 'L': "T",
}

// reread are the references that s may have been, with at most so many of its
// characters from i on misread. What no reference has must have been.
func reread(s []byte, i, left int) (found []Ref) {
	if i == len(s) {
		if r, err := ParseRef(string(s)); err == nil {
			found = append(found, r)
		}
		return found
	}
	if strings.IndexByte(refAlphabet, s[i]) >= 0 {
		found = reread(s, i+1, left)
	}
	if left == 0 {
		return found
	}
	for _, c := range []byte(mistaken[s[i]]) {
		other := slices.Clone(s)
		other[i] = c
		found = append(found, reread(other, i+1, left-1)...)
	}
	return found
}
