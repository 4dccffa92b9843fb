package contender

import (
	"debug/buildinfo"
	"os/exec"
	"strings"
)

// Version says which release the contender is; empty when it does not tell.
func (c *Contender) Version() string {
	switch c.Name {
	case Postrider:
		return buildOf(c.site.Postrider)
	case PostfixOpenDKIM:
		// opendkim: OpenDKIM Filter v2.11.0
		first, _, _ := strings.Cut(said("opendkim", "-V"), "\n")
		_, version, _ := strings.Cut(first, ": ")
		return postfixVersion() + ", " + version
	}
	return postfixVersion()
}

func postfixVersion() string { return "Postfix " + said("postconf", "-dh", "mail_version") }

func said(name string, args ...string) string {
	path, err := find(name)
	if err != nil {
		return ""
	}
	out, _ := exec.Command(path, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func buildOf(name string) string {
	path, err := find(name)
	if err != nil {
		return ""
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	text := "built with " + info.GoVersion
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			text += ", revision " + setting.Value
		}
	}
	return text
}
