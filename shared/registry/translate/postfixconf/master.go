package postfixconf

import (
	"strings"
)

// Option is one "-o name=value" of a service.
type Option struct{ Name, Value string }

// Service is one line of master.cf.
type Service struct {
	Place
	// Name and Type are its first columns, Command its program.
	Name, Type, Command string
	Options             []Option
	// Fault says why the line cannot be read.
	Fault string
}

// ReadMaster reads a master.cf.
func ReadMaster(file string, text []byte) []Service {
	var out []Service
	for _, at := range logical(file, text) {
		s := Service{Place: at}
		words := Fields(strings.ReplaceAll(at.Text, ",", "\x00")) // commas are part of values here
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "\x00", ",")
		}
		if len(words) < 8 {
			s.Fault = "a service has eight columns"
		} else {
			s.Name, s.Type, s.Command = words[0], words[1], words[7]
			s.Options, s.Fault = options(words[8:])
		}
		out = append(out, s)
	}
	return out
}

func options(words []string) (out []Option, fault string) {
	for i := 0; i < len(words); i++ {
		text, glued := strings.CutPrefix(words[i], "-o")
		if !glued {
			continue
		}
		if text == "" && i+1 < len(words) {
			i++
			text = words[i]
		}
		text = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}"))
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			fault = "\"-o " + text + "\" is not name=value"
			continue
		}
		out = append(out, Option{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return out, fault
}
