package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// object is a mapping in the order of its struct.
type object []member

type member struct {
	name  string
	value any // object, []any, string, bool, json.Number or nil
}

// audit are what an entry says of its last change, which no file decides.
var audit = []string{"changed_at", "changed_by", "removed"}

// face is an entry as the file shows it.
func face(item registry.Item, secrets bool) (object, error) {
	text, err := json.Marshal(item)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", item, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := ordered(decoder)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", item, err)
	}
	o, _ := value.(object)
	return slices.DeleteFunc(o, func(m member) bool {
		switch m.name {
		case "origin":
			return m.value != string(registry.OriginFile)
		case "secrets":
			return !secrets
		}
		return slices.Contains(audit, m.name)
	}), nil
}

// ordered reads one value with its members in order.
func ordered(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := ordered(d)
			if err != nil {
				return nil, err
			}
			o = append(o, member{fmt.Sprint(name), short(fmt.Sprint(name), value)})
		}
		_, err = d.Token()
		return o, err
	case json.Delim('['):
		l := []any{}
		for d.More() {
			value, err := ordered(d)
			if err != nil {
				return nil, err
			}
			l = append(l, value)
		}
		_, err = d.Token()
		return l, err
	}
	return token, nil
}

// short writes the ranges of single addresses as people do.
func short(name string, value any) any {
	switch list, _ := value.([]any); {
	case name == "range":
		return shortRange(value)
	case name == "addresses":
		for i := range list {
			list[i] = shortRange(list[i])
		}
	}
	return value
}

func shortRange(value any) any {
	text, ok := value.(string)
	if !ok {
		return value
	}
	if p, err := registry.ParseRange(text); err == nil && p.IsSingleIP() {
		return p.Addr().String()
	}
	return value
}

// Field is one field of an entry that differs.
type Field struct {
	// Name is its path, as "limits.size".
	Name string `json:"field"`
	// From and To are the values as JSON; empty is none.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

func (f Field) String() string {
	switch {
	case f.From == "":
		return f.Name + " = " + f.To
	case f.To == "":
		return f.Name + " not " + f.From
	}
	return f.Name + " " + f.From + " -> " + f.To
}

// Fields are what differs between two states of an entry; nil is none. Secrets
// are told only by their number and age.
func Fields(from, to registry.Item) ([]Field, error) {
	before, err := flat(from)
	if err != nil {
		return nil, err
	}
	after, err := flat(to)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(before)
	maps.Copy(names, after)
	var out []Field
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := Field{name, before[name], after[name]}
		if f.From == f.To {
			continue
		}
		if name == "secrets" {
			f.From, f.To = count(from), count(to)
		}
		out = append(out, f)
	}
	return out, nil
}

// flat are the fields of an entry by their paths. Why it was changed is none.
func flat(item registry.Item) (map[string]string, error) {
	out := map[string]string{}
	if item == nil {
		return out, nil
	}
	o, err := face(item, true)
	if err != nil {
		return nil, err
	}
	return out, flatten("", o, out)
}

func flatten(path string, o object, into map[string]string) error {
	for _, m := range o {
		name := path + m.name
		switch name {
		case "origin", "reason", "ticket", "name", "subject", "range", "kind": // what it is called is no change of it
			continue
		}
		if inner, ok := m.value.(object); ok {
			if err := flatten(name+".", inner, into); err != nil {
				return err
			}
			continue
		}
		text, err := json.Marshal(m.value)
		if err != nil {
			return err
		}
		into[name] = string(text)
	}
	return nil
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func count(item registry.Item) string {
	c, ok := item.(*registry.Credential)
	if !ok || c == nil || len(c.Secrets) == 0 {
		return ""
	}
	var made []string
	for _, s := range c.Secrets {
		text := "made " + s.Made.UTC().Format("2006-01-02 15:04:05")
		if !s.Until.IsZero() {
			text += " until " + s.Until.UTC().Format("2006-01-02 15:04:05")
		}
		made = append(made, text)
	}
	return "[" + strings.Join(made, ", ") + "]"
}
