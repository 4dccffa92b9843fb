// Package document is a whole registry as a file that people keep, compare and
// apply again: YAML or JSON with a list for each kind of entry. It performs no
// I/O.
//
//	devices:
//	  - name: prn-1.chem.campus.test
//	    owner: chem
//	    addresses: [10.2.3.4]
//	domains:
//	  - name: campus.test
//
// Consumes the text of such a file (Read) and the entries of a registry.
// Produces that text (Write), and the Plan of what would have to change in the
// registry to be what the file says (Diff).
//
// Guarantees: what Write wrote, Diff against the same entries finds nothing in.
// A plan carried out leaves no plan. Entries of the configuration file are left
// alone. A kind that the file does not name is left alone, and what it does not
// list is removed only when that is asked for. What no person writes by hand
// (dates, application, suspension, secrets) stays as it is unless the file says
// otherwise.
//
// Failures: Read names the line of what it does not understand. Diff says what
// the registry would not be sound with: Plan.Faults.
//
// Limits: comments and the order of lists of entries are not kept. The hashes of
// secrets are written only when asked for.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// The kinds as the file names them, in the order in which they are written: what
// others refer to comes first.
var kinds = [...]string{"owners", "groups", "domains", "networks", "blocks", "devices", "credentials"}

// Document is what a file says.
type Document struct {
	registry.Entries
	// Kinds are those that the file names.
	Kinds map[string]bool
	// Lines is where each entry begins, by its key; nothing for JSON.
	Lines map[string]int
}

// maxProblems bounds what Read says about a file that is wrong throughout.
const maxProblems = 20

// Read reads a file. Its error has a line for each entry that it does not
// understand.
func Read(text []byte) (*Document, error) {
	raw, err := split(text)
	if err != nil {
		return nil, err
	}
	d := &Document{Kinds: map[string]bool{}, Lines: map[string]int{}}
	var problems []error
	for _, list := range raw {
		d.Kinds[list.kind] = true
		for _, e := range list.entries {
			item, err := read(list.kind, e.value)
			if err == nil {
				err = d.take(item, e.line)
			}
			if err != nil && len(problems) < maxProblems {
				problems = append(problems, fmt.Errorf("%s: %w", where(list.kind, e), err))
			}
		}
	}
	return d, errors.Join(problems...)
}

// take adds an entry that is there once.
func (d *Document) take(item registry.Item, line int) error {
	key := item.Key()
	if first, twice := d.Lines[key]; twice {
		if first > 0 {
			return fmt.Errorf("%s stands on line %d already", item, first)
		}
		return fmt.Errorf("%s is named twice", item)
	}
	d.Lines[key] = line
	if item.Audit().Origin != registry.OriginFile { // exported for the record
		d.Add(item)
	}
	return nil
}

func where(kind string, e entry) string {
	if e.line > 0 {
		return fmt.Sprintf("line %d, %s[%d]", e.line, kind, e.index)
	}
	return fmt.Sprintf("%s[%d]", kind, e.index)
}

// list is what a file has of one kind.
type list struct {
	kind    string
	entries []entry
}

type entry struct {
	index, line int
	value       any
}

// split reads the text as lists of entries. JSON is read as such: it may be
// large.
func split(text []byte) ([]list, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return splitJSON(text)
	}
	return splitYAML(text)
}

func splitJSON(text []byte) ([]list, error) {
	var body map[string][]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&body); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	var out []list
	for _, kind := range kinds {
		values, there := body[kind]
		if !there {
			continue
		}
		delete(body, kind)
		l := list{kind: kind}
		for i, v := range values {
			l.entries = append(l.entries, entry{index: i, value: v})
		}
		out = append(out, l)
	}
	for kind := range body {
		return nil, unknownKind(kind)
	}
	return out, nil
}

func unknownKind(kind string) error {
	return fmt.Errorf("%q is no kind of entry; there are %s", kind, strings.Join(kinds[:], ", "))
}

func splitYAML(text []byte) (out []list, err error) {
	// The parser is not ours: should it panic, that is a fault of the file.
	defer func() {
		if recover() != nil {
			out, err = nil, errors.New("this is not YAML that can be read")
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("read YAML: %s", yaml.FormatError(err, false, false))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.NullType {
		return nil, nil
	}
	body, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok || len(file.Docs) > 1 {
		return nil, fmt.Errorf("one document with lists of entries is expected: %s", strings.Join(kinds[:], ", "))
	}
	for each := body.MapRange(); each.Next(); {
		l, err := listOf(each.Key().GetToken().Value, each.Value())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", each.Key().GetToken().Position.Line, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func listOf(kind string, node ast.Node) (list, error) {
	l := list{kind: kind}
	if itemOf(kind) == nil {
		return l, unknownKind(kind)
	}
	if node == nil || node.Type() == ast.NullType {
		return l, nil
	}
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		return l, fmt.Errorf("%s: a list is expected", kind)
	}
	for i, n := range seq.Values {
		e := entry{index: i}
		if token := n.GetToken(); token != nil && token.Position != nil {
			e.line = token.Position.Line
		}
		if err := yaml.NodeToValue(n, &e.value); err != nil {
			return l, fmt.Errorf("%s: %s", where(kind, e), yaml.FormatError(err, false, false))
		}
		l.entries = append(l.entries, e)
	}
	return l, nil
}

func itemOf(kind string) registry.Item {
	switch kind {
	case "owners":
		return new(registry.Owner)
	case "groups":
		return new(registry.Group)
	case "domains":
		return new(registry.Domain)
	case "networks":
		return new(registry.Network)
	case "blocks":
		return new(registry.Block)
	case "devices":
		return new(registry.Device)
	case "credentials":
		return new(registry.Credential)
	}
	return nil
}

// read makes an entry of what the file says of it.
func read(kind string, value any) (registry.Item, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("a mapping is expected, such as {name: …}")
	}
	if err := plain(fields); err != nil {
		return nil, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	item := itemOf(kind)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(item); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if err := complete(item); err != nil {
		return nil, err
	}
	return item, nil
}

// plain brings what people may write shorter to the form of the registry: one
// address as a range, and a day as the instant at which it ends.
func plain(fields map[string]any) error {
	for name, value := range fields {
		switch value := value.(type) {
		case map[string]any:
			if err := plain(value); err != nil {
				return err
			}
		case []any:
			for _, v := range value {
				if inner, ok := v.(map[string]any); ok {
					if err := plain(inner); err != nil {
						return err
					}
				}
			}
		case string:
			if name == "range" {
				p, err := registry.ParseRange(value)
				if err != nil {
					return err
				}
				fields[name] = p.String()
			}
			if day, err := time.Parse(time.DateOnly, value); err == nil && (name == "until" || name == "expires") {
				fields[name] = day.AddDate(0, 0, 1).Format(time.RFC3339)
			}
		}
	}
	return nil
}

// complete gives an entry the name that the registry has it under, and what a
// device has where the file does not say.
func complete(item registry.Item) error {
	name := ""
	switch item := item.(type) {
	case *registry.Device:
		item.Name = host(item.Name)
		name = item.Name
		if name != "" && (!registry.IsHost(name) || !strings.Contains(name, ".")) {
			return fmt.Errorf("%q is not a fully qualified domain name (example: prn-1.campus.test)", name)
		}
		if item.Scope == "" {
			item.Scope = registry.ScopeAnywhere
		}
		if item.Class == "" {
			item.Class = mail.ClassDefault
		}
		if item.State == "" {
			item.State = registry.StateActive
		}
	case *registry.Credential:
		item.Device = host(item.Device)
		name = item.Name
	case *registry.Domain:
		item.Name = host(item.Name)
		name = item.Name
	case *registry.Network:
		if item.Range.IsValid() && item.Kind != "" {
			name = item.Range.String()
		}
	case *registry.Block:
		name = registry.BlockSubject(item.Subject)
		item.Subject = name
	case *registry.Owner:
		name = item.Name
	case *registry.Group:
		name = item.Name
	}
	if name == "" {
		return errors.New("it has no name")
	}
	for _, f := range registry.WithoutWildcards(item.Faults()) { // Diff judges those
		return errors.New(f.String())
	}
	return nil
}

func host(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
