package document

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// Form is how a document is written.
type Form struct {
	// JSON instead of YAML.
	JSON bool
	// File includes the entries of the configuration file, which say so.
	File bool
	// Secrets includes the hashes of secrets: whoever reads them can try
	// passwords on them.
	Secrets bool
}

// Write writes the entries of a registry.
func Write(to io.Writer, entries registry.Entries, form Form) error {
	w := bufio.NewWriter(to)
	if form.JSON {
		w.WriteByte('{')
	}
	for i, kind := range kinds {
		if err := writeKind(w, i, kind, itemsOf(&entries, kind), form); err != nil {
			return err
		}
	}
	if form.JSON {
		w.WriteString("\n}\n")
	}
	return w.Flush()
}

func writeKind(w *bufio.Writer, i int, kind string, items []registry.Item, form Form) error {
	separator := ""
	if form.JSON {
		if i > 0 {
			w.WriteString(",")
		}
		fmt.Fprintf(w, "\n  %q: [", kind)
	} else {
		w.WriteString(kind + ":")
	}
	for _, item := range items {
		if item.Audit().Origin == registry.OriginFile && !form.File {
			continue
		}
		o, err := face(item, form.Secrets)
		if err != nil {
			return err
		}
		if !form.JSON {
			w.WriteString("\n  - ")
			writeObject(w, "    ", o)
			continue
		}
		text, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("write %s: %w", item, err)
		}
		w.WriteString(separator + "\n    ")
		w.Write(text)
		separator = ","
	}
	if form.JSON {
		w.WriteString("]")
	} else {
		w.WriteString("\n")
	}
	return nil
}

// writeObject writes the members of a mapping in block style; the first stands
// where the line is.
func writeObject(w *bufio.Writer, indent string, o object) {
	for i, m := range o {
		if i > 0 {
			w.WriteString("\n" + indent)
		}
		w.WriteString(m.name + ":")
		switch value := m.value.(type) {
		case object:
			w.WriteString("\n" + indent + "  ")
			writeObject(w, indent+"  ", value)
		default:
			w.WriteString(" " + flow(value))
		}
	}
}

// flow writes a value on one line.
func flow(value any) string {
	switch value := value.(type) {
	case object:
		parts := make([]string, len(value))
		for i, m := range value {
			parts[i] = m.name + ": " + flow(m.value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, len(value))
		for i, v := range value {
			parts[i] = flow(v)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		return scalar(value)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "null"
	}
	return string(text)
}

// scalar writes text that no reader of YAML takes for anything else, without
// quotes where it is plainly a word, a name or an address.
func scalar(s string) string {
	if isWord(s) || isRange(s) {
		return s
	}
	text, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(text)
}

func isWord(s string) bool {
	switch strings.ToLower(s) {
	case "", "true", "false", "yes", "no", "on", "off", "y", "n", "null", "inf", "nan":
		return false
	}
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789.-_@/+", c)) {
			return false
		}
	}
	return true
}

// isRange reports an IPv4 address or range: four numbers are no number.
func isRange(s string) bool {
	address, _, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || !a.Is4() {
		return false
	}
	_, err = registry.ParseRange(s)
	return err == nil
}

func itemsOf(e *registry.Entries, kind string) []registry.Item {
	switch kind {
	case "owners":
		return items(e.Owners)
	case "groups":
		return items(e.Groups)
	case "domains":
		return items(e.Domains)
	case "networks":
		return items(e.Networks)
	case "blocks":
		return items(e.Blocks)
	case "devices":
		return items(e.Devices)
	case "credentials":
		return items(e.Credentials)
	}
	return nil
}
