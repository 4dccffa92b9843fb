package translate

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

// YAML translates the sections devices, domains and networks of a configuration
// file, which becomes entries of commands. It is read as strictly as a
// configuration: with a fault in it nothing is translated, and the faults are
// what is left over.
func YAML(name string, r io.Reader, _ Options) (*Result, error) {
	text, err := readAll(name, r)
	if err != nil {
		return nil, err
	}
	y := sheet{}
	result := &Result{}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	at := func(line int) place {
		p := place{file: name, first: line}
		if line > 0 && line <= len(lines) {
			p.text = strings.TrimSpace(lines[line-1])
		}
		return p
	}
	cfg, err := config.Parse(name, text)
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			y.left(at(p.Line), Everybody, p.Text, "mend it, and import again")
		}
		y.left(at(0), Everybody, "nothing was translated: the file has faults", "mend them, and import again")
	case err != nil:
		return nil, err
	default:
		result.Entries = cfg.FileEntries()
		y.translated(at(0), fmt.Sprintf("%d devices, %d domains, %d networks", len(result.Entries.Devices), len(result.Entries.Domains), len(result.Entries.Networks)))
		y.sections(name, cfg)
	}
	for _, d := range result.Entries.Domains {
		result.Hints.Hosted = append(result.Hints.Hosted, d.Name)
		if d.Route != "" {
			result.Hints.Routes = append(result.Hints.Routes, config.Route{Domain: d.Name, To: d.Route})
		}
	}
	for item := range result.Entries.All() {
		*item.Audit() = registry.Entry{}
	}
	result.Lines = y.sorted()
	return result, nil
}

// sections tells of those that are no part of the registry.
func (s *sheet) sections(name string, cfg *config.Config) {
	empty, err := config.Parse(name, nil)
	if err != nil {
		return
	}
	has, none := reflect.ValueOf(*cfg), reflect.ValueOf(*empty)
	for i := range has.NumField() {
		key := has.Type().Field(i).Tag.Get("yaml")
		switch key {
		case "", "-", "devices", "domains", "networks":
			continue
		}
		if !reflect.DeepEqual(has.Field(i).Interface(), none.Field(i).Interface()) {
			s.left(place{file: name, text: key}, "", "this section is no part of the registry", "put it into the configuration file")
		}
	}
}
