package config

import (
	_ "embed"
	"strings"
)

//go:embed template.yaml
var template string

// Template is a complete commented configuration file for a relay of that
// name: every key is there with its default and what it means. It loads as it
// is. In it a comment has a space after "#"; a key that is commented out has
// none.
func Template(hostname string) []byte {
	return []byte(strings.ReplaceAll(template, "HOSTNAME", hostname))
}
