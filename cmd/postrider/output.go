package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// outputs are the forms of a listing.
const outputs = "table|json|jsonl|csv"

// withOutput gives a listing command its -o.
func withOutput(f *flags, c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&f.output, "output", "o", "table", "output form: "+outputs)
	return c
}

// listing writes rows in the chosen form as they come.
type listing[R any] struct {
	columns []string
	cells   func(R) []string

	form  string
	out   io.Writer
	table *tabwriter.Writer
	csv   *csv.Writer
	rows  int
}

// newListing checks the form and writes what goes before the first row.
func newListing[R any](f *flags, out io.Writer, columns []string, cells func(R) []string) (*listing[R], error) {
	l := &listing[R]{columns: columns, cells: cells, form: f.output, out: out}
	switch f.output {
	case "table":
		l.table = tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(l.table, strings.ToUpper(strings.Join(columns, "\t")))
	case "csv":
		l.csv = csv.NewWriter(out)
		if err := l.csv.Write(columns); err != nil {
			return nil, err
		}
	case "json":
		io.WriteString(out, "[")
	case "jsonl":
	default:
		return nil, usage("-o %s: choose one of %s", f.output, outputs)
	}
	return l, nil
}

// add writes one row.
func (l *listing[R]) add(r R) error {
	l.rows++
	switch l.form {
	case "table":
		_, err := fmt.Fprintln(l.table, visible(strings.Join(l.cells(r), "\t")))
		return err
	case "csv":
		cells := l.cells(r)
		for i, c := range cells {
			// A cell that begins like a formula would run in a spreadsheet.
			if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
				cells[i] = "'" + c
			}
		}
		return l.csv.Write(cells)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	switch {
	case l.form == "jsonl":
		_, err = fmt.Fprintf(l.out, "%s\n", b)
	case l.rows == 1:
		_, err = fmt.Fprintf(l.out, "\n  %s", b)
	default:
		_, err = fmt.Fprintf(l.out, ",\n  %s", b)
	}
	return err
}

// end writes what goes after the last row.
func (l *listing[R]) end() error {
	switch l.form {
	case "table":
		return l.table.Flush()
	case "csv":
		l.csv.Flush()
		return l.csv.Error()
	case "json":
		_, err := io.WriteString(l.out, "\n]\n")
		return err
	}
	return nil
}

// visible removes what a terminal would obey: text of others goes through it.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, s)
}

// age is a duration for people: "45s", "12m", "3h05m", "2d4h".
func age(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// size is a number of octets for people.
func size(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

// printJSON writes one value, indented.
func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
