package translate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// Postfix translates a copy of a Postfix configuration directory: main.cf,
// master.cf and the source form of the tables that they name.
//
// It evaluates the restrictions of the smtpd on port 25 for every address range
// that occurs in them, for hosted and other recipients, with and without
// authentication. What rests on names, senders, recipients, black lists or other
// programs is left over, and taken as not refusing.
func Postfix(dir fs.FS, o Options) (*Result, error) {
	text, err := readFile(dir, "main.cf")
	if err != nil {
		return nil, fmt.Errorf("%w: the directory must be a copy of /etc/postfix", err)
	}
	p := &postfix{
		dir: dir, options: o, main: postfixconf.ReadMain("main.cf", text),
		tables: map[string]*table{}, spans: spans{}, result: &Result{}, taken: map[string]string{}, hosted: map[string]bool{},
	}
	if p.options.Domain == "" {
		p.options.Domain = p.get("mydomain")
	}
	p.master()
	p.domains()
	p.clients()
	p.senders()
	p.logins()
	p.routes()
	p.parameters()
	p.rest()
	p.result.Hints.MadeUp = madeUp(p.result.Entries.Devices, p.spans)
	p.result.Lines = p.sorted()
	return p.result, nil
}

// postfix is one translation.
type postfix struct {
	sheet
	dir     fs.FS
	options Options
	// main is main.cf with what master.cf changes for the smtpd on port 25.
	main     *postfixconf.Main
	services []postfixconf.Service
	tables   map[string]*table
	spans    spans
	result   *Result
	// taken are the parameters that were used, and what became of them.
	taken map[string]string
	// hosted are the domains for which mail is accepted.
	hosted map[string]bool
	// hops are the levels of TLS towards next hops, and level that of all others.
	hops  map[string]config.TLSLevel
	level config.TLSLevel
	// evaluation: mynetworks, and the restrictions of each stage.
	mynetworks []element
	stages     []stage
	// senderTables are those of check_sender_access.
	senderTables []senderTable
}

// table is a file that was read, each line with whether it has its row.
type table struct {
	reference postfixconf.Reference
	file      string
	lines     []*line
	// exact are the lines of a table by key that are addresses or networks.
	exact map[string]*line
	fault string
}

type line struct {
	postfixconf.Entry
	said bool // the account has a row for it
	hits int  // classes of addresses that it decided
}

func (l *line) place() place { return placeOf(l.Place) }

func placeOf(p postfixconf.Place) place { return place{p.File, p.First, p.Last, p.Text} }

func readFile(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	return readAll(name, f)
}

// get is a parameter; one that cannot be expanded is empty, and told of with
// the other parameters.
func (p *postfix) get(name string) string {
	value, err := p.main.Get(name)
	if err != nil {
		return ""
	}
	return value
}

// take is get of a parameter that is translated by that.
func (p *postfix) take(name, became string) string {
	if p.taken[name] == "" {
		p.taken[name] = became
	}
	return p.get(name)
}

// at is the place of a parameter, or main.cf where it has its default.
func (p *postfix) at(name string) place {
	for i := len(p.main.Parameters) - 1; i >= 0; i-- {
		if p.main.Parameters[i].Name == name {
			return placeOf(p.main.Parameters[i].Place)
		}
	}
	return place{file: "main.cf", text: name + " (default)"}
}

// local is the path of a file in the copy; ok is false for one that lay
// elsewhere.
func (p *postfix) local(name string) (file string, ok bool) {
	if !path.IsAbs(name) {
		return path.Clean(name), fs.ValidPath(path.Clean(name))
	}
	for _, prefix := range []string{p.options.Dir, p.get("config_directory"), "/etc/postfix"} {
		if rest, in := strings.CutPrefix(path.Clean(name), strings.TrimSuffix(prefix, "/")+"/"); in && prefix != "" {
			return rest, true
		}
	}
	return "", false
}

// open reads a table once. A table that cannot be read has a fault.
func (p *postfix) open(r postfixconf.Reference) *table {
	if t := p.tables[r.String()]; t != nil {
		return t
	}
	t := &table{reference: r, exact: map[string]*line{}}
	p.tables[r.String()] = t
	if r.Kind == postfixconf.Other || r.Type == "inline" || r.Type == "static" {
		t.fault = "a table of type " + r.Type + " cannot be read here"
		return t
	}
	file, ok := p.local(r.Name)
	if !ok {
		t.fault = r.Name + " is not in the copied directory"
		return t
	}
	text, err := readFile(p.dir, file)
	if errors.Is(err, fs.ErrNotExist) {
		t.fault = "the source of " + r.String() + " is not in the directory"
		return t
	}
	if err != nil {
		t.fault = err.Error()
		return t
	}
	t.file = file
	for _, e := range postfixconf.ReadTable(r.Kind, file, text) {
		l := &line{Entry: e}
		if p.secret(r) {
			l.Text = "(secret)"
		}
		t.lines = append(t.lines, l)
		if e.Fault != "" {
			p.left(l.place(), "", "Postfix cannot use this line, either: "+e.Fault, "mend it or leave it out")
			l.said = true
			continue
		}
		if e.Structure {
			p.translated(l.place(), "part of the conditions of the lines within")
			l.said = true
			continue
		}
		if r.Kind == postfixconf.Indexed {
			p.index(t, l)
		}
	}
	return t
}

// secret reports a table that holds passwords.
func (p *postfix) secret(r postfixconf.Reference) bool {
	for _, word := range postfixconf.Fields(p.get("smtp_sasl_password_maps")) {
		if own, ok := postfixconf.ParseReference(word); ok && own == r {
			return true
		}
	}
	return false
}

func (p *postfix) index(t *table, l *line) {
	if first := t.exact[l.Key]; first != nil {
		p.left(l.place(), l.Key, fmt.Sprintf("the key is there on line %d already; postmap keeps one of them", first.First), "remove one of them")
		l.said = true
		return
	}
	t.exact[l.Key] = l
}

// reference opens the table of a word such as "hash:/etc/postfix/access"; a
// word that names none, or one that cannot be read, is told of.
func (p *postfix) reference(at place, word, concerns string) (*table, bool) {
	r, ok := postfixconf.ParseReference(word)
	if !ok {
		p.left(at, concerns, word+" is no table", "see what it was meant to be")
		return nil, false
	}
	t := p.open(r)
	if t.fault != "" {
		p.left(at, concerns, t.fault, "bring its content as a hash, texthash, cidr or pcre source into the directory, and import again")
		return nil, false
	}
	return t, true
}

// element is one word of a match list: an address, a domain or a table, which
// may stand in a file of its own.
type element struct {
	at   place
	not  bool
	word string
	file *table
	r    netip.Prefix // of an element of mynetworks
}

// elements takes a match list apart (match lists: mynetworks, relay_domains …).
func (p *postfix) elements(name string, concerns string) []element {
	at := p.at(name)
	var out []element
	for _, word := range postfixconf.Fields(p.get(name)) {
		e := element{at: place{at.file, at.first, at.last, word}}
		for strings.HasPrefix(word, "!") {
			e.not, word = !e.not, word[1:]
		}
		e.word = word
		switch {
		case strings.HasPrefix(word, "/"):
			out = append(out, p.listed(e, concerns)...)
			continue
		case isReference(word):
			t, ok := p.reference(e.at, word, concerns)
			if !ok {
				continue
			}
			e.file = t
		}
		out = append(out, e)
	}
	return out
}

func isReference(word string) bool {
	_, ok := postfixconf.ParseReference(word)
	return ok
}

// listed are the elements of a file that a list names.
func (p *postfix) listed(e element, concerns string) (out []element) {
	file, ok := p.local(e.word)
	text, err := []byte(nil), error(nil)
	if ok {
		text, err = readFile(p.dir, file)
	}
	if !ok || err != nil {
		p.left(e.at, concerns, e.word+" is not in the copied directory", "copy it, and import again")
		return nil
	}
	p.tables["file:"+file] = &table{file: file}
	for _, at := range postfixconf.ReadTable(postfixconf.Indexed, file, text) {
		where := placeOf(at.Place)
		for _, word := range postfixconf.Fields(at.Text) {
			inner := element{at: where, not: e.not, word: word}
			for strings.HasPrefix(word, "!") {
				inner.not, word = !inner.not, word[1:]
			}
			inner.word = word
			out = append(out, inner)
		}
	}
	return out
}

// rest accounts for the lines and files that nobody asked for.
func (p *postfix) rest() {
	read := map[string]bool{"main.cf": true, "master.cf": true}
	for _, t := range p.tables {
		if t.file == "" {
			continue
		}
		read[t.file] = true
		for _, l := range t.lines {
			if !l.said {
				p.left(l.place(), l.Key, "nothing here corresponds to a line of this table", "see what it was for")
			}
		}
	}
	var unread []string
	err := fs.WalkDir(p.dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !read[name] {
			unread = append(unread, name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		p.left(place{file: "."}, Everybody, "the directory cannot be listed: "+err.Error(), "look at what is in it")
	}
	slices.Sort(unread)
	for _, name := range unread {
		p.unread(name, read)
	}
}

// unread is a file that no parameter names, or that is made of one.
func (p *postfix) unread(name string, read map[string]bool) {
	at := place{file: name, text: name}
	source := strings.TrimSuffix(name, path.Ext(name))
	switch {
	case slices.Contains([]string{".db", ".lmdb", ".dir", ".pag", ".cdb"}, path.Ext(name)) && read[source]:
		p.meaningless(at, "compiled form of "+source)
	case slices.Contains(shipped, path.Base(name)), strings.HasPrefix(name, "dynamicmaps.cf.d/"), strings.HasPrefix(name, "postfix-files.d/"):
		p.meaningless(at, "part of the package")
	case strings.HasPrefix(name, "sasl/"):
		p.left(at, "", "how Postfix checked passwords", "give its users credentials (postrider credential add), or set auth.ldap or auth.kerberos")
	default:
		p.left(at, "", "no parameter that is translated names this file", "see whether it is in use")
	}
}

// shipped are files of the package that say nothing about mail.
var shipped = []string{
	"main.cf.proto", "master.cf.proto", "makedefs.out", "post-install", "postfix-files", "postfix-script", "dynamicmaps.cf",
	"LICENSE", "TLS_LICENSE", "main.cf.default", "bounce.cf.default",
}
