package config

import (
	"embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

//go:embed config.go policy.go auth.go directory.go values.go
var source embed.FS

// Document is docs/CONFIG.md: every key with type, default and meaning, taken
// from the structs, their comments and Defaults.
func Document() string {
	d := document{notes: readNotes()}
	d.WriteString(introduction)
	config := reflect.ValueOf(Defaults()).Elem()
	for i := range config.NumField() {
		field := config.Type().Field(i)
		if key := keyOf(field); key != "" {
			d.section(key, field, config.Field(i))
		}
	}
	d.unavailable()
	return d.String()
}

const introduction = `# Configuration

Generated from ` + "`shared/config`" + `; do not edit.

One YAML file: that of ` + "`--config`, of `$POSTRIDER_CONFIG`, `./postrider.yaml`, `/etc/postrider/postrider.yaml`" + `.
Without a file Postrider is a sandbox. Every key has a default. A key that does not exist, or is given twice, is an
error that names file, line and column; ` + "`postrider config check`" + ` lists all of them. ` + "`postrider init DIR`" + ` writes a
file to start from.

Durations are written ` + "`30s`, `5m`, `36h`, `5d`; sizes `512KiB`, `50MB`" + ` (KB is 1000, KiB is 1024); networks ` + "`10.0.0.0/8`" + `,
without bits beyond the length, or ` + "`10.2.3.4`" + ` for one address. Domains may be written with any letters and are compared as
lower-case A-labels. ` + "`x[]`" + ` stands for each entry of the list ` + "`x`" + `; where no default is given it is empty. Anchors, tags and
further documents of YAML are refused.
`

// note is what the source says about a type.
type note struct {
	about  string
	fields map[string]string
	words  []string // the constants of a type of words
}

type document struct {
	strings.Builder
	notes map[string]note
}

func (d *document) section(key string, field reflect.StructField, v reflect.Value) {
	about := d.notes["Config"].fields[field.Name]
	if about == "" {
		about = d.notes[noteOf(element(v.Type()))].about
	}
	fmt.Fprintf(d, "\n## %s\n\n%s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", key, about)
	if v.Kind() == reflect.Slice {
		d.entry(key, v.Type())
		return
	}
	d.fields(key, v)
}

// fields writes a row for every key of a struct, and the keys below it.
func (d *document) fields(path string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := keyOf(field)
		if key == "" {
			continue
		}
		at, value := member(path, key), v.Field(i)
		below := element(field.Type)
		isMapping := below.Kind() == reflect.Struct && !isOneWord(reflect.Zero(below))
		if !isMapping || value.Kind() != reflect.Struct {
			d.row(at, value, d.meaning(v.Type(), field))
		}
		switch {
		case !isMapping:
		case value.Kind() == reflect.Slice:
			d.entry(at, value.Type())
		case value.Kind() == reflect.Pointer:
			d.fields(at, fresh(below))
		default:
			d.fields(at, value)
		}
	}
}

// entry writes the keys of an entry of a list.
func (d *document) entry(path string, list reflect.Type) { d.fields(path+"[]", fresh(list.Elem())) }

// fresh is a value with the defaults of its own.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	setDefaults(v)
	return v
}

func (d *document) row(path string, v reflect.Value, meaning string) {
	meaning, otherwise, said := strings.Cut(meaning, "Default: ")
	if !said {
		otherwise = shown(v)
	}
	cells := []string{"`" + path + "`", d.typeName(v.Type()), strings.TrimSuffix(otherwise, "."), strings.TrimSpace(meaning)}
	for i := range cells {
		cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
	}
	fmt.Fprintf(d, "| %s |\n", strings.Join(cells, " | "))
}

// meaning is the comment of a field, which begins with the key and not with
// the name in Go.
func (d *document) meaning(of reflect.Type, field reflect.StructField) string {
	comment := d.notes[noteOf(of)].fields[field.Name]
	if rest, ok := strings.CutPrefix(comment, field.Name+" "); ok {
		return "`" + keyOf(field) + "` " + rest
	}
	return comment
}

// registryNotes is before the names of types that are in package registry.
const registryNotes = "registry."

func noteOf(t reflect.Type) string {
	if t.PkgPath() == reflect.TypeFor[registry.Device]().PkgPath() {
		return registryNotes + t.Name()
	}
	return t.Name()
}

func (d *document) typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Mode]():
		return "off, observe, enforce"
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[registry.Address]():
		return "network"
	case reflect.TypeFor[time.Time]():
		return "date"
	case reflect.TypeFor[netip.Addr]():
		return "IP address"
	}
	switch t.Kind() {
	case reflect.Slice:
		return strings.TrimSuffix("list of "+d.typeName(t.Elem()), " of mapping")
	case reflect.Pointer, reflect.Struct:
		return "mapping"
	case reflect.Bool:
		return "true, false"
	case reflect.Int, reflect.Int64:
		return "number"
	}
	if words := d.notes[noteOf(t)].words; len(words) > 0 {
		return strings.Join(words, ", ")
	}
	return "text"
}

// shown is a default as it is written in the file.
func shown(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i).Interface()))
		}
		return "`[" + strings.Join(parts, ", ") + "]`"
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return "below"
	}
	if v.IsZero() && v.Kind() != reflect.Bool {
		return ""
	}
	return "`" + fmt.Sprint(v.Interface()) + "`"
}

func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func (d *document) unavailable() {
	d.WriteString("\n## Not in this release\n\nThese keys are accepted, with a warning.\n\n| key | effect |\n|---|---|\n")
	for _, c := range unavailable() {
		fmt.Fprintf(d, "| `%s` | %s |\n", c.key, c.effect)
	}
}

// readNotes reads the comments of the source that is compiled in.
func readNotes() map[string]note {
	notes := map[string]note{}
	for _, s := range sources() {
		file, err := parser.ParseFile(token.NewFileSet(), s.name, s.text, parser.ParseComments)
		if err != nil {
			continue // it was compiled
		}
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				readDeclaration(notes, s.prefix, g)
			}
		}
	}
	return notes
}

// sourceFile is one with the comments of types; their names get the prefix.
type sourceFile struct{ prefix, name, text string }

func sources() []sourceFile {
	out := []sourceFile{{registryNotes, "device.go", registry.Source}}
	for _, name := range []string{"config.go", "policy.go", "auth.go", "directory.go", "values.go"} {
		if text, err := source.ReadFile(name); err == nil { // embedded above
			out = append(out, sourceFile{"", name, string(text)})
		}
	}
	return out
}

func readDeclaration(notes map[string]note, prefix string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			n := notes[prefix+spec.Name.Name]
			n.about, n.fields = firstParagraph(g.Doc), map[string]string{}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					if len(f.Names) == 0 {
						continue
					}
					n.fields[f.Names[0].Name] = strings.TrimSpace(oneLine(f.Doc) + " " + oneLine(f.Comment))
				}
			}
			notes[prefix+spec.Name.Name] = n
		case *ast.ValueSpec:
			of, named := spec.Type.(*ast.Ident)
			if !named || len(spec.Values) != 1 {
				continue
			}
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				word, _ := strconv.Unquote(literal.Value)
				n := notes[prefix+of.Name]
				n.words = append(n.words, word)
				notes[prefix+of.Name] = n
			}
		}
	}
}

func firstParagraph(c *ast.CommentGroup) string {
	first, _, _ := strings.Cut(c.Text(), "\n\n")
	return strings.Join(strings.Fields(first), " ")
}

// oneLine is a comment without the numbers of requirements, which mean nothing
// to whom configures.
func oneLine(c *ast.CommentGroup) string {
	return numbers.ReplaceAllString(strings.Join(strings.Fields(c.Text()), " "), "")
}

var numbers = regexp.MustCompile(` \([PWSMX][0-9]+(, [PWSMX][0-9]+)*\)`)
