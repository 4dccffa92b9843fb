package translate

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// CSV translates a table with a device in each row. Its first line has the names
// of the columns, which are those of a device in the configuration file, with
// limits and quirks by their own names: name, owner, contacts, addresses, senders,
// header_senders, scope, class, traffic, proof, phi, size, session, recipients,
// messages_per_hour, recipients_per_hour, from, domain, legacy_tls,
// repair_newlines, hide_ehlo; and exempt, with the reason. Lists are separated by
// spaces or semicolons, columns by commas, semicolons or tabs.
//
// A device without a name gets one from its first address. A row with a fault is
// left over as a whole.
func CSV(name string, r io.Reader, o Options) (*Result, error) {
	text, err := readAll(name, r)
	if err != nil {
		return nil, err
	}
	t := &sheetOfDevices{file: name, options: o, result: &Result{}, names: map[string]int{}, ranges: map[netip.Prefix]int{}}
	if err := t.read(bytes.TrimPrefix(text, []byte("\ufeff"))); err != nil {
		return nil, err
	}
	t.result.Lines = t.sorted()
	return t.result, nil
}

type sheetOfDevices struct {
	sheet
	file    string
	options Options
	result  *Result
	columns []string
	names   map[string]int // the line that has the name
	ranges  map[netip.Prefix]int
}

func (t *sheetOfDevices) read(text []byte) error {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord, r.TrimLeadingSpace = -1, true
	header, _, _ := bytes.Cut(text, []byte("\n"))
	for _, separator := range "\t;" {
		if bytes.Count(header, []byte(string(separator))) > bytes.Count(header, []byte(",")) {
			r.Comma = separator
		}
	}
	names, err := r.Read()
	if err != nil {
		return fmt.Errorf("read %s: %w", t.file, err)
	}
	for _, name := range names {
		t.columns = append(t.columns, strings.ToLower(strings.TrimSpace(name)))
	}
	if !slices.Contains(t.columns, "name") && !slices.Contains(t.columns, "addresses") {
		return fmt.Errorf("read %s: its first line has neither a column name nor addresses: the columns are those of a device", t.file)
	}
	t.translated(place{t.file, 1, 0, strings.Join(names, ", ")}, "the columns")
	for _, name := range t.columns {
		if columns[name] == nil {
			t.left(place{t.file, 1, 0, name}, "", "no device has a column "+strconv.Quote(name), "name it as the configuration does, or keep it elsewhere")
		}
	}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.file, err)
		}
		line, _ := r.FieldPos(0)
		last, _ := r.FieldPos(len(cells) - 1)
		t.row(place{t.file, line, last, strings.Join(cells, ", ")}, cells)
	}
}

// row is one device.
func (t *sheetOfDevices) row(at place, cells []string) {
	d := registry.Device{Scope: registry.ScopeAnywhere, Class: mail.ClassDefault, State: registry.StateActive}
	var faults []string
	for i, cell := range cells {
		if i >= len(t.columns) {
			faults = append(faults, "it has more cells than there are columns")
			break
		}
		if set := columns[t.columns[i]]; set != nil && strings.TrimSpace(cell) != "" {
			if err := set(&d, strings.TrimSpace(cell)); err != nil {
				faults = append(faults, t.columns[i]+": "+err.Error())
			}
		}
	}
	faults = append(faults, t.name(&d)...)
	for _, f := range d.Check() {
		faults = append(faults, f.String())
	}
	faults = append(faults, t.rivals(&d)...)
	if len(faults) > 0 {
		t.left(at, concernsDevice(&d), strings.Join(faults, "; "), "mend the row, and import again")
		return
	}
	t.names[d.Name] = at.first
	for _, a := range d.Addresses {
		t.ranges[a.Range] = at.first
	}
	t.result.Entries.Devices = append(t.result.Entries.Devices, &d)
	t.translated(at, d.String())
}

func concernsDevice(d *registry.Device) string {
	var out []string
	for _, a := range d.Addresses {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// name wants one, or makes it up.
func (t *sheetOfDevices) name(d *registry.Device) []string {
	if d.Name == "" && len(d.Addresses) > 0 {
		a := d.Addresses[0].Range
		if d.Name = t.options.Names[a.Addr()]; d.Name == "" && t.options.Domain != "" {
			d.Name = nameOf(a, t.options.Domain)
			t.result.Hints.MadeUp++
		}
	}
	if !fqdn.MatchString(d.Name) {
		return []string{fmt.Sprintf("name: %q is not a fully qualified domain name", d.Name)}
	}
	return nil
}

// rivals are rows before this one with its name or one of its ranges.
func (t *sheetOfDevices) rivals(d *registry.Device) (faults []string) {
	if line := t.names[d.Name]; line > 0 {
		faults = append(faults, fmt.Sprintf("name: that of line %d", line))
	}
	for _, a := range d.Addresses {
		if line := t.ranges[a.Range]; line > 0 {
			faults = append(faults, fmt.Sprintf("addresses: %s is one of line %d", a, line))
		}
	}
	return faults
}

// columns set what they are named after.
var columns = map[string]func(*registry.Device, string) error{
	"name": func(d *registry.Device, s string) error {
		d.Name = strings.ToLower(strings.TrimSuffix(s, "."))
		return nil
	},
	"owner":          func(d *registry.Device, s string) error { d.Owner = s; return nil },
	"contacts":       func(d *registry.Device, s string) error { d.Contacts = list(s); return nil },
	"senders":        func(d *registry.Device, s string) error { d.Senders = list(s); return nil },
	"header_senders": func(d *registry.Device, s string) error { d.HeaderSenders = list(s); return nil },
	"hide_ehlo":      func(d *registry.Device, s string) error { d.Quirks.HideEHLO = list(s); return nil },
	"scope":          func(d *registry.Device, s string) error { d.Scope = registry.Scope(s); return nil },
	"class":          func(d *registry.Device, s string) error { d.Class = mail.Class(s); return nil },
	"traffic":        func(d *registry.Device, s string) error { d.Traffic = registry.Traffic(s); return nil },
	"proof":          func(d *registry.Device, s string) error { d.Proof = registry.Proof(s); return nil },
	"from":           func(d *registry.Device, s string) error { d.Quirks.From = s; return nil },
	"domain":         func(d *registry.Device, s string) error { d.Quirks.Domain = s; return nil },
	"exempt": func(d *registry.Device, s string) error {
		d.Exempt = &registry.Exemption{Reason: s}
		return nil
	},
	"addresses": func(d *registry.Device, s string) error {
		for _, text := range list(s) {
			a, err := parseRange(text)
			if err != nil {
				return err
			}
			d.Addresses = append(d.Addresses, addressesOf(a.prefixes()...)...)
		}
		return nil
	},
	"phi":                 truth(func(d *registry.Device) *bool { return &d.PHI }),
	"legacy_tls":          truth(func(d *registry.Device) *bool { return &d.Quirks.LegacyTLS }),
	"repair_newlines":     truth(func(d *registry.Device) *bool { return &d.Quirks.RepairNewlines }),
	"session":             count(func(d *registry.Device) *int { return &d.Limits.Session }),
	"recipients":          count(func(d *registry.Device) *int { return &d.Limits.Recipients }),
	"messages_per_hour":   count(func(d *registry.Device) *int { return &d.Limits.MessagesPerHour }),
	"recipients_per_hour": count(func(d *registry.Device) *int { return &d.Limits.RecipientsPerHour }),
	"size": func(d *registry.Device, s string) error {
		n, err := config.ParseSize(s)
		d.Limits.Size = int64(n)
		return err
	},
}

// list takes a cell with several values apart.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("; \t,\n", r) })
}

func truth(of func(*registry.Device) *bool) func(*registry.Device, string) error {
	return func(d *registry.Device, s string) error {
		switch strings.ToLower(s) {
		case "true", "yes", "1", "x":
			*of(d) = true
		case "false", "no", "0":
		default:
			return fmt.Errorf("%q is neither true nor false", s)
		}
		return nil
	}
}

func count(of func(*registry.Device) *int) func(*registry.Device, string) error {
	return func(d *registry.Device, s string) (err error) {
		*of(d), err = strconv.Atoi(s)
		if err != nil {
			err = fmt.Errorf("%q is no number", s)
		}
		return err
	}
}
