package acceptance

import (
	"fmt"
	"strings"
)

// Page is docs/REQUIREMENTS.md.
func Page() string {
	var b strings.Builder
	b.WriteString(`<!-- Made by go test ./test/acceptance -update. Do not edit. -->
# Requirements

What the services that Postrider replaces do or demand, row by row, and the test that shows it. Tests without a folder are in
` + "`test/acceptance`" + ` and ask a whole relay over SMTP.

`)
	count := map[Status]int{}
	for _, r := range Rows {
		count[r.Status]++
	}
	fmt.Fprintf(&b, "%d rows: %d held, %d partly, %d shown elsewhere, %d not yet kept, or shown by no test.\n", len(Rows), count[Held], count[Partly], count[Elsewhere], count[NotYet])
	for _, s := range Services {
		fmt.Fprintf(&b, "\n## %s: %s\n\n| row | wanted | status | tests |\n|---|---|---|---|\n", s.Letter, s.Name)
		for _, r := range Rows {
			if strings.HasPrefix(r.ID, s.Letter) {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.ID, r.Text, status(r.Status, r.Missing), code(r.Tests))
			}
		}
	}
	b.WriteString("\n## Where they contradict each other\n\n| about | set by | either | or | tests of both |\n|---|---|---|---|---|\n")
	for _, s := range Switches {
		tests := code(s.Tests)
		if s.Missing != "" {
			tests += " (missing: " + s.Missing + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", s.About, s.Key, s.Positions[0], s.Positions[1], strings.TrimSpace(tests))
	}
	return b.String()
}

func status(s Status, missing string) string {
	if missing == "" {
		return string(s)
	}
	return string(s) + " (missing: " + missing + ")"
}

func code(tests []string) string {
	if len(tests) == 0 {
		return ""
	}
	return "`" + strings.Join(tests, "`, `") + "`"
}
