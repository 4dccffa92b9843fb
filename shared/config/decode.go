package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/postrider/postrider/shared/registry"
)

// decoder sets a Config from the syntax tree of a file. It goes on after a
// problem, so that an operator sees all of them, and remembers where each key
// stood, so that later checks can say so.
//
// The tree is read here and not by the YAML library's own decoder because
// that one stops at the first mistake, quotes the source, which may be a
// password, and takes 010 for eight.
type decoder struct {
	file     string
	root     reflect.Type
	where    positions
	failed   map[string]bool // paths with a problem: their values mean nothing
	problems Problems
}

// decode reads data over the values that into has already.
func (d *decoder) decode(data []byte, into *Config) {
	d.root = reflect.TypeFor[Config]()
	body := d.parse(data)
	if body == nil {
		return
	}
	d.mapping("", body, reflect.ValueOf(into).Elem())
}

// parse makes the syntax tree of the one document of the file; nil when there
// is nothing to read.
func (d *decoder) parse(data []byte) (body ast.Node) {
	if !utf8.Valid(data) || strings.ContainsRune(string(data), 0) {
		d.add("", nil, "this is not a text file in UTF-8")
		return nil
	}
	// The parser is not ours: should it panic on a file, that is a problem of
	// the file and no reason for a running service to stop.
	defer func() {
		if recover() != nil {
			d.add("", nil, "this is not YAML that can be read")
			body = nil
		}
	}()
	tokens := lexer.Tokenize(strings.TrimPrefix(string(data), "\ufeff"))
	if !d.oneDocument(tokens) {
		return nil
	}
	file, err := parser.Parse(rejoin(tokens), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.NullType {
		return nil
	}
	return file.Docs[0].Body
}

// syntax reports an error of the parser without the source that it quotes.
func (d *decoder) syntax(err error) {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		d.add("", nil, "this is not YAML that can be read")
		return
	}
	d.add("", at.GetToken(), "%s", at.GetMessage())
}

// value sets v from any node.
func (d *decoder) value(path string, node ast.Node, v reflect.Value) {
	switch node := node.(type) {
	case nil, *ast.NullNode: // "key:" without a value keeps the default
		return
	case *ast.AnchorNode, *ast.AliasNode:
		d.add(path, node.GetToken(), "anchors and aliases are not used here; write the value out")
		return
	case *ast.TagNode:
		d.add(path, node.GetToken(), "tags are not used here; write the value only")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
		v = v.Elem()
	}
	_, isScalar := node.(ast.ScalarNode)
	_, readsText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case isScalar && (readsText || v.Kind() != reflect.Struct && v.Kind() != reflect.Slice):
		d.scalar(path, node.(ast.ScalarNode), v)
	case v.Kind() == reflect.Slice:
		d.list(path, node, v)
	case v.Kind() == reflect.Struct && !(readsText && isOneWord(v)):
		d.mapping(path, node, v)
	default:
		d.add(path, node.GetToken(), "this is %s where %s is expected", describe(node), expected(v))
	}
}

// mapping sets the fields of a struct.
func (d *decoder) mapping(path string, node ast.Node, v reflect.Value) {
	m, ok := node.(ast.MapNode)
	if !ok {
		d.add(path, node.GetToken(), "this is %s where %s is expected", describe(node), expected(v))
		return
	}
	seen := map[string]*token.Token{}
	for iter := m.MapRange(); iter.Next(); {
		tk := iter.Key().GetToken()
		key := tk.Value
		field, known := fieldOf(v, key)
		if !known || iter.Key().IsMergeKey() {
			d.unknown(path, tk, v.Type())
			continue
		}
		at := member(path, key)
		if first, twice := seen[key]; twice {
			d.add(at, tk, "key %s is repeated; it stands on line %d already", quote(key), first.Position.Line)
			continue
		}
		seen[key] = tk
		d.note(at, tk)
		d.value(at, iter.Value(), field)
	}
}

// unknown reports a key that is not valid at path. What it was meant to be is
// taken as failed, so that it is not reported as missing as well.
func (d *decoder) unknown(path string, tk *token.Token, t reflect.Type) {
	key, keys := tk.Value, keysOf(t)
	hint := didYouMean(key, keys)
	if hint != "" {
		d.fail(member(path, closest(key, keys)))
	} else if places := elsewhere(d.root, "", key); len(places) == 1 {
		hint = fmt.Sprintf("; did you mean %q?", places[0])
	}
	// "{credentials:user:secret}" is one key, of which the value must not show.
	if name, _, glued := strings.Cut(key, ":"); glued {
		key, hint = name+":…", "; is a space missing after the colon?"
		d.fail(member(path, name))
	}
	prefix := ""
	if path != "" {
		prefix = path + ": "
	}
	d.add("", tk, "%sunknown key %s%s", prefix, quote(key), hint)
}

// list sets a slice, which replaces the default entirely.
func (d *decoder) list(path string, node ast.Node, v reflect.Value) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		d.add(path, node.GetToken(), "this is %s where a list is expected", describe(node))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, entry := range seq.Values {
		at := item(path, i)
		d.note(at, firstToken(entry))
		setDefaults(v.Index(i))
		if entry == nil || entry.Type() == ast.NullType {
			d.add(at, firstToken(entry), "this entry of the list is empty")
			continue
		}
		d.value(at, entry, v.Index(i))
	}
}

// scalar sets anything that is written as one word. The words are taken as
// they were written: 1.0 for a string is "1.0".
func (d *decoder) scalar(path string, node ast.ScalarNode, v reflect.Value) {
	tk := firstToken(node)
	d.note(path, tk)
	text := textOf(node)
	var err error
	switch to := v.Addr().Interface().(type) {
	case *netip.Prefix:
		*to, err = parseNetwork(text)
	case *netip.Addr:
		*to, err = parseAddr(text)
	case *time.Time:
		*to, err = parseDate(text)
	case encoding.TextUnmarshaler:
		err = to.UnmarshalText([]byte(text))
	default:
		switch v.Kind() {
		case reflect.Bool:
			err = setBool(v, text)
		case reflect.Int, reflect.Int64:
			err = setInt(v, text)
		default:
			if node.Type() == ast.BoolType {
				err = errors.New("this is a truth value where text is expected; put it in quotes if it is meant")
			}
			v.SetString(text)
		}
	}
	if err != nil {
		d.add(path, tk, "%v", err)
	}
}

// parseDate reads a day, or a time of RFC 3339. A day ends at its end.
func parseDate(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s is not a date (examples: 2027-06-30, 2027-06-30T12:00:00Z)", quote(text))
	}
	return t, nil
}

func setBool(v reflect.Value, text string) error {
	switch strings.ToLower(text) {
	case "true", "false":
		v.SetBool(strings.EqualFold(text, "true"))
		return nil
	case "yes", "on", "y":
		return fmt.Errorf("%s is neither true nor false; did you mean true?", quote(text))
	case "no", "off", "n":
		return fmt.Errorf("%s is neither true nor false; did you mean false?", quote(text))
	}
	return fmt.Errorf("%s is neither true nor false", quote(text))
}

func setInt(v reflect.Value, text string) error {
	n, err := strconv.Atoi(text)
	if err == nil && !leadingZero(strings.TrimLeft(text, "+-")) {
		v.SetInt(int64(n))
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s has a leading zero, which may mean octal; write %d", quote(text), n)
	}
	return fmt.Errorf("%s is not a whole number", quote(text))
}

// add reports a problem at a token, or with the whole file.
func (d *decoder) add(path string, tk *token.Token, format string, args ...any) {
	p := Problem{File: d.file, Key: path, Text: fmt.Sprintf(format, args...)}
	if path != "" {
		p.Text = path + ": " + p.Text
		d.fail(path)
	}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = tk.Position.Line, tk.Position.Column
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) fail(path string) { d.failed[path] = true }

// doubted reports that a key, or one around it, was not understood.
func (d *decoder) doubted(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.failed[path] {
			return true
		}
	}
	return false
}

func (d *decoder) note(path string, tk *token.Token) {
	if tk != nil && tk.Position != nil {
		d.where[path] = position{tk.Position.Line, tk.Position.Column}
	}
}

// defaulter is an entry of a list, or an optional mapping, with defaults of
// its own.
type defaulter interface{ setDefaults() }

func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.setDefaults()
	}
}

// fieldOf is the field of a struct for a key.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if own := keyOf(v.Type().Field(i)); own != "" && own == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// firstToken is where a reader sees a node begin: a mapping in block style at
// its first key.
func firstToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

func textOf(n ast.ScalarNode) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return n.GetToken().Value
}

// isOneWord reports a struct that is written as one word.
func isOneWord(v reflect.Value) bool {
	switch v.Interface().(type) {
	case netip.Prefix, netip.Addr, registry.Address, time.Time:
		return true
	}
	return false
}

// describe names what a node is, without its value.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	}
	return "a single value"
}

// expected names what a key wants.
func expected(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice:
		return "a list"
	case isOneWord(v) || v.Kind() != reflect.Struct:
		return "a single value"
	}
	return "a mapping (" + strings.Join(keysOf(v.Type()), ", ") + ")"
}
