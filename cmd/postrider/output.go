package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// Forms of output: those of a listing, and those of a single answer.
const (
	listings = "table|json|jsonl|csv"
	answers  = "table|json"
)

// withOutput gives a command its -o with the forms that it has.
func withOutput(f *flags, forms string, c *cobra.Command) *cobra.Command {
	f.output = "table"
	c.Flags().VarP(&form{&f.output, forms}, "output", "o", "output form: "+forms)
	return c
}

// form is the value of -o. Another one than the command has is refused before
// the command begins.
type form struct {
	value *string
	forms string
}

func (o *form) String() string { return *o.value }
func (o *form) Type() string   { return "form" }

func (o *form) Set(s string) error {
	if !slices.Contains(strings.Split(o.forms, "|"), s) {
		return fmt.Errorf("choose one of %s", o.forms)
	}
	*o.value = s
	return nil
}

// tablePage is how many rows are aligned with each other. A long table shows
// its beginning while the rest is read, and is never held whole.
const tablePage = 500

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

// newListing writes what goes before the first row.
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
	}
	return l, nil
}

// add writes one row.
func (l *listing[R]) add(r R) error {
	l.rows++
	switch l.form {
	case "table":
		cells := l.cells(r)
		for i, c := range cells {
			cells[i] = visible(c)
		}
		_, err := fmt.Fprintln(l.table, strings.Join(cells, "\t"))
		if err == nil && l.rows%tablePage == 0 {
			err = l.table.Flush()
		}
		return err
	case "csv":
		cells := l.cells(r)
		for i, c := range cells {
			// A cell that begins like a formula would run in a spreadsheet.
			if len(c) > 1 && strings.ContainsRune("=+-@\t\r\n", rune(c[0])) {
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
		_, err = fmt.Fprintf(l.out, "[\n  %s", b)
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
		end := "\n]\n"
		if l.rows == 0 {
			end = "[]\n"
		}
		_, err := io.WriteString(l.out, end)
		return err
	}
	return nil
}

// visible is s on one line without what a terminal would obey, or what would
// show it in another order: text of others goes through it.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
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
