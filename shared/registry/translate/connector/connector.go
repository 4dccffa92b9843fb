// Package connector reads exports of Exchange receive connectors, as
// Get-ReceiveConnector gives them through Export-Clixml, ConvertTo-Json,
// Export-Csv or Format-List. It says what is written there, and where; what it
// means for mail is for the caller.
//
// It consumes the text of a file, in UTF-8 or UTF-16 with its mark, and performs
// no I/O. It produces connectors with their properties, each with its values and
// its line.
//
// Guarantees: every property of every connector is in the result. A value that
// the export itself has cut off or lost is marked (Cut).
//
// Limits: of a value with parts only the parts that name it are kept: the lower
// and upper bound of a range, the text of an object.
package connector

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Property is one setting of a connector.
type Property struct {
	Name   string
	Values []string
	// Line is where it stands, from 1.
	Line int
	// Cut: the export shows only the beginning of it, or only its type.
	Cut bool
}

// Value is the property on one line.
func (p Property) Value() string { return strings.Join(p.Values, ", ") }

// Connector is one of an export.
type Connector struct {
	Properties []Property
}

// Get is a property in any case of its name.
func (c *Connector) Get(name string) (Property, bool) {
	for _, p := range c.Properties {
		if strings.EqualFold(p.Name, name) {
			return p, true
		}
	}
	return Property{}, false
}

// Text is the value of a property, or empty.
func (c *Connector) Text(name string) string {
	p, _ := c.Get(name)
	return strings.TrimSpace(p.Value())
}

// Read reads an export, whichever of the four forms it has.
func Read(text []byte) ([]Connector, error) {
	text, err := decode(text)
	if err != nil {
		return nil, err
	}
	start := strings.TrimSpace(string(text[:min(len(text), 4096)]))
	var out []Connector
	switch {
	case strings.HasPrefix(start, "<"):
		out, err = readXML(text)
	case strings.HasPrefix(start, "{"), strings.HasPrefix(start, "["):
		out, err = readJSON(text)
	case strings.HasPrefix(start, "#TYPE"), isCSV(start):
		out, err = readCSV(text)
	default:
		out = readList(text)
	}
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	var kept []Connector
	for _, c := range out {
		if _, ok := c.Get("RemoteIPRanges"); ok {
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		return nil, errors.New("read export: no receive connector is in it (Get-ReceiveConnector | Export-Clixml connectors.xml)")
	}
	return kept, nil
}

// isCSV reports a first line with the columns.
func isCSV(start string) bool {
	line, _, _ := strings.Cut(start, "\n")
	return strings.Contains(line, "RemoteIPRanges") && strings.ContainsAny(line, ",;\t") && !strings.Contains(line, " : ")
}

// decode makes UTF-8 of what PowerShell writes.
func decode(text []byte) ([]byte, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
		if !utf8.Valid(text) {
			return nil, errors.New("read export: this is no text in UTF-8 or UTF-16")
		}
		return text, nil
	}
	units := make([]uint16, 0, len(text)/2)
	for i := 2; i+1 < len(text); i += 2 {
		units = append(units, order.Uint16(text[i:]))
	}
	return []byte(string(utf16.Decode(units))), nil
}

// lineAt counts lines up to an offset, onwards from where it was last.
type lineAt struct {
	text   []byte
	offset int
	line   int
}

func (l *lineAt) at(offset int64) int {
	if int(offset) < l.offset {
		l.offset, l.line = 0, 0
	}
	to := min(int(offset), len(l.text))
	l.line += bytes.Count(l.text[l.offset:to], []byte("\n"))
	l.offset = to
	return l.line + 1
}
