package connector

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The four forms of an export.

// node is an element of Export-Clixml (MS-PSRP §2.2.5).
type node struct {
	XMLName  xml.Name
	Name     string `xml:"N,attr"`
	RefID    string `xml:"RefId,attr"`
	Text     string `xml:",chardata"`
	Children []node `xml:",any"`
	line     int
}

func readXML(text []byte) ([]Connector, error) {
	root, err := parseXML(text)
	if err != nil {
		return nil, err
	}
	refs := map[string]*node{}
	root.index(refs)
	var out []Connector
	for i := range root.Children {
		if c := root.Children[i].connector(refs); len(c.Properties) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// parseXML reads the tree with the line of each element.
func parseXML(text []byte) (*node, error) {
	d, lines := xml.NewDecoder(bytes.NewReader(text)), &lineAt{text: text}
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it is UTF-8 by now
	const maxDepth = 64
	stack := []*node{{}}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			n := &node{XMLName: t.Name, line: lines.at(d.InputOffset())}
			for _, a := range t.Attr {
				switch a.Name.Local {
				case "N":
					n.Name = a.Value
				case "RefId":
					n.RefID = a.Value
				}
			}
			if stack = append(stack, n); len(stack) > maxDepth {
				return nil, errors.New("elements are nested too deeply")
			}
		case xml.EndElement:
			stack = stack[:len(stack)-1]
			parent := stack[len(stack)-1]
			parent.Children = append(parent.Children, *top)
		case xml.CharData:
			top.Text += string(t)
		}
	}
	if len(stack) != 1 || len(stack[0].Children) != 1 {
		return nil, errors.New("this is no export of Export-Clixml")
	}
	return &stack[0].Children[0], nil
}

func (n *node) index(refs map[string]*node) {
	if n.RefID != "" && n.XMLName.Local == "Obj" {
		refs[n.RefID] = n
	}
	for i := range n.Children {
		n.Children[i].index(refs)
	}
}

// connector is an object with its properties.
func (n *node) connector(refs map[string]*node) (c Connector) {
	for _, part := range n.Children {
		if part.XMLName.Local != "Props" && part.XMLName.Local != "MS" {
			continue
		}
		for _, p := range part.Children {
			if _, twice := c.Get(p.Name); twice || p.Name == "" {
				continue
			}
			c.Properties = append(c.Properties, Property{Name: p.Name, Values: p.values(refs, 0), Line: p.line})
		}
	}
	return c
}

// values are the texts of a property: of a list those of its elements, of an
// object its name.
func (n *node) values(refs map[string]*node, depth int) (out []string) {
	if n.XMLName.Local == "Ref" && depth < 8 {
		if to := refs[n.RefID]; to != nil {
			return to.values(refs, depth+1)
		}
	}
	text := ""
	for i := range n.Children {
		switch child := &n.Children[i]; child.XMLName.Local {
		case "LST", "IE", "QUE", "STK":
			for j := range child.Children {
				out = append(out, child.Children[j].values(refs, depth)...)
			}
			return out
		case "ToString":
			text = child.Text
		}
	}
	if text == "" {
		text = n.Text
	}
	if text = strings.TrimSpace(text); text != "" {
		out = append(out, text)
	}
	return out
}

func readJSON(text []byte) ([]Connector, error) {
	d, lines := json.NewDecoder(bytes.NewReader(text)), &lineAt{text: text}
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return nil, err
	}
	if first == json.Delim('{') {
		c, err := readObject(d, lines)
		return []Connector{c}, err
	}
	var out []Connector
	for d.More() {
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return nil, errors.Join(errors.New("this is no list of connectors"), err)
		}
		c, err := readObject(d, lines)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// readObject reads the rest of an object whose brace was read.
func readObject(d *json.Decoder, lines *lineAt) (c Connector, err error) {
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return c, err
		}
		p := Property{Name: fmt.Sprint(key), Line: lines.at(d.InputOffset())}
		var value any
		if err := d.Decode(&value); err != nil {
			return c, err
		}
		p.Values = flatten(value)
		c.Properties = append(c.Properties, p)
	}
	_, err = d.Token()
	return c, err
}

// flatten is a value as texts.
func flatten(value any) (out []string) {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		for _, e := range v {
			out = append(out, flatten(e)...)
		}
		return out
	case map[string]any:
		return object(v)
	}
	if s := strings.TrimSpace(fmt.Sprint(value)); s != "" {
		out = append(out, s)
	}
	return out
}

// object is the text of one: what it calls itself, or its bounds.
func object(v map[string]any) []string {
	for _, key := range []string{"Expression", "value", "Value", "Name"} {
		if s, ok := v[key].(string); ok && s != "" {
			return []string{s}
		}
	}
	low, high := flatten(v["LowerBound"]), flatten(v["UpperBound"])
	if len(low) == 1 && len(high) == 1 {
		return []string{low[0] + "-" + high[0]}
	}
	if address, port := flatten(v["Address"]), flatten(v["Port"]); len(address) == 1 {
		if len(port) == 1 {
			return []string{address[0] + ":" + port[0]}
		}
		return address
	}
	for _, key := range []string{"value", "Value", "IPAddressToString"} {
		if s := flatten(v[key]); len(s) == 1 {
			return s
		}
	}
	return []string{fmt.Sprint(v)}
}

func readCSV(text []byte) ([]Connector, error) {
	skipped := 0
	if bytes.HasPrefix(text, []byte("#TYPE")) {
		_, rest, _ := bytes.Cut(text, []byte("\n"))
		text, skipped = rest, 1
	}
	r := csv.NewReader(bytes.NewReader(text))
	header, _, _ := bytes.Cut(text, []byte("\n"))
	for _, separator := range "\t;" {
		if bytes.Count(header, []byte(string(separator))) > bytes.Count(header, []byte(",")) {
			r.Comma = separator
		}
	}
	names, err := r.Read()
	if err != nil {
		return nil, err
	}
	var out []Connector
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var c Connector
		for i, cell := range cells {
			line, _ := r.FieldPos(i)
			p := Property{Name: names[i], Line: line + skipped, Cut: strings.HasPrefix(cell, "Microsoft.Exchange.Data.MultiValuedProperty") || strings.HasPrefix(cell, "System.Collections")}
			p.Values = split(names[i], cell)
			c.Properties = append(c.Properties, p)
		}
		out = append(out, c)
	}
}

// split takes a cell with several values apart.
func split(name, cell string) []string {
	switch cell = strings.TrimSpace(cell); {
	case cell == "":
		return nil
	case strings.EqualFold(name, "RemoteIPRanges"), strings.EqualFold(name, "Bindings"):
		return strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) })
	}
	return []string{cell}
}

// readList reads Format-List: "Name : value", with continued lines indented.
func readList(text []byte) (out []Connector) {
	var c Connector
	end := func() {
		if len(c.Properties) > 0 {
			out = append(out, c)
		}
		c = Connector{}
	}
	for i, line := range strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n") {
		name, value, ok := strings.Cut(line, " : ")
		if !ok {
			name, ok = strings.CutSuffix(strings.TrimRight(line, " "), " :")
			value = ""
		}
		name = strings.TrimSpace(name)
		last := len(c.Properties) - 1
		switch {
		case strings.TrimSpace(line) == "":
			continue
		case ok && !strings.HasPrefix(line, " ") && !strings.ContainsAny(name, " ,{"):
			if _, again := c.Get(name); again || strings.EqualFold(name, "RunspaceId") {
				end()
			}
			c.Properties = append(c.Properties, Property{Name: name, Values: []string{strings.TrimSpace(value)}, Line: i + 1})
		case last >= 0:
			c.Properties[last].Values[0] += " " + strings.TrimSpace(line)
		default:
			c.Properties = append(c.Properties, Property{Name: strings.TrimSpace(line), Values: []string{""}, Line: i + 1})
		}
	}
	end()
	for i := range out {
		for j := range out[i].Properties {
			out[i].Properties[j].unfold()
		}
	}
	return out
}

// unfold takes "{a, b, c...}" apart.
func (p *Property) unfold() {
	value := p.Values[0]
	if !strings.HasPrefix(value, "{") {
		p.Values = split(p.Name, value)
		return
	}
	value, closed := strings.CutSuffix(strings.TrimPrefix(value, "{"), "}")
	for _, dots := range []string{"...", "…"} {
		if short, cut := strings.CutSuffix(value, dots); cut {
			value, p.Cut = short, true
		}
	}
	p.Cut = p.Cut || !closed
	p.Values = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}
