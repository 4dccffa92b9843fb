package compare

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the result for a terminal: per cell a row and bars for each
// server, then the ratios.
func (r Result) WriteTable(w io.Writer) error {
	for _, line := range r.facts() {
		fmt.Fprintln(w, line)
	}
	for _, cell := range r.Cells {
		fmt.Fprintf(w, "\n%s\n", cell.title())
		if err := cell.writeRows(w); err != nil {
			return err
		}
		for _, ratio := range cell.Ratios {
			fmt.Fprintf(w, "  %s\n", ratio)
		}
		for _, remark := range cell.remarks() {
			fmt.Fprintf(w, "  %s\n", remark)
		}
	}
	if len(r.Syncs) > 0 {
		fmt.Fprintf(w, "\nbrought to the disk per message (10 KiB, 20 connections, under strace)\n")
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  server\tsync calls\tO_SYNC writes\tbefore the 250")
		for _, s := range r.Syncs {
			fmt.Fprintf(table, "  %s\n", strings.Join(s.row(), "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.verdict())
	return err
}

// barWidth is that of the fastest contender.
const barWidth = 16

func (c Compared) writeRows(w io.Writer) error {
	var accept, endToEnd float64 // the longest bars
	for _, s := range c.Servers {
		if s.Name != Direct {
			accept, endToEnd = max(accept, s.Accept.Median), max(endToEnd, s.EndToEnd.Median)
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  server\taccept/s\t\tend to end/s\t\tCPU ms/message\tMB\tharness ms")
	for _, s := range c.Servers {
		cells := s.row()
		// What the harness does alone is off the scale.
		if s.Name != Direct {
			cells[2], cells[4] = bar(s.Accept.Median, accept), bar(s.EndToEnd.Median, endToEnd)
		}
		fmt.Fprintf(table, "  %s\n", strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// row is name, accept, bar, end to end, bar, CPU, memory, harness.
func (s Server) row() []string {
	if len(figures(s.Runs, Run.accept)) == 0 {
		return []string{s.Name, "-", "", "-", "", "-", "-", "-"}
	}
	cpu, memory := s.CPU.format("%.2f"), s.Memory.format("%.0f")
	if s.Name == Direct {
		cpu, memory = "-", "-"
	}
	return []string{s.Name, s.Accept.format("%.0f"), "", s.EndToEnd.format("%.0f"), "", cpu, memory, fmt.Sprintf("%.2f", s.Harness.Median)}
}

func (s Synced) row() []string {
	if s.Failed != "" {
		return []string{s.Name, "-", "-", "failed: " + s.Failed}
	}
	before := fmt.Sprintf("%d of %d", s.Before250, s.Alone)
	if s.Before250 < s.Alone {
		before += " NOT DURABLE"
	}
	return []string{s.Name, fmt.Sprintf("%.2f", s.Calls), fmt.Sprintf("%.2f", s.Writes), before}
}

// format is the median and, if there is one, the range.
func (s Spread) format(verb string) string {
	if s.Min == s.Max {
		return fmt.Sprintf(verb, s.Median)
	}
	return fmt.Sprintf(verb+" ("+verb+"-"+verb+")", s.Median, s.Min, s.Max)
}

func (r Ratio) String() string {
	want, verdict := fmt.Sprintf("at least %.3g", r.Goal), "holds"
	if r.AtMost {
		want = fmt.Sprintf("at most %.3g", r.Goal)
	}
	if !r.Holds {
		verdict = "DOES NOT HOLD"
	}
	return fmt.Sprintf("%s: %s that of %s, goal %s: %s", r.Of, r.times(), r.Against, want, verdict)
}

func (r Ratio) times() string {
	if r.Min == r.Ratio && r.Max == r.Ratio {
		return fmt.Sprintf("%.2fx", r.Ratio)
	}
	return fmt.Sprintf("%.2fx (%.2f-%.2f)", r.Ratio, r.Min, r.Max)
}

// bar is a bar of at most barWidth characters, to an eighth of one.
func bar(value, longest float64) string {
	if !(value > 0 && longest > 0) {
		return ""
	}
	eighths := max(1, int(value/longest*barWidth*8+0.5))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

func (c Compared) title() string { return fmt.Sprintf("%s: %d messages", c.Cell, c.Messages) }

// remarks are what one must know before believing the figures.
func (c Compared) remarks() []string {
	var all []string
	if c.HarnessBound {
		all = append(all, "the harness alone is less than twice as fast as the fastest server: it may bound that one")
	}
	for _, s := range c.Servers {
		for _, run := range s.Runs {
			if run.Failed != "" {
				all = append(all, fmt.Sprintf("FAILED: %s, round %d: %s", s.Name, run.Round, run.Failed))
			}
		}
	}
	return all
}

func (r Result) facts() []string {
	m := r.Machine
	lines := []string{
		fmt.Sprintf("%s, %d cores, %s, %s, %s, load before %s", m.CPU, m.Cores, m.Memory, m.Kernel, m.OS, m.Load),
		fmt.Sprintf("mail on %s; source and sink built with %s; CPU counted by %s", m.Filesystem, m.Go, r.Counted),
	}
	for _, server := range r.servers() {
		if version := r.Versions[server]; version != "" {
			lines = append(lines, server+": "+version)
		}
	}
	if load, err := strconv.ParseFloat(m.Load, 64); err == nil && load > float64(m.Cores)/4 {
		lines = append(lines, "The machine was BUSY before the start: the ratios are worth less, the figures nothing.")
	}
	if r.SyncDelay > 0 {
		lines = append(lines, fmt.Sprintf("Every fsync of a server was made to take %s longer, by strace, whose processor time counts as the server's.", r.SyncDelay))
	}
	return append(lines,
		fmt.Sprintf("%d rounds, interleaved; median (lowest-highest). All on 127.0.0.1, source and sink on the same cores.", r.Rounds),
		"Every server is set up to bring a message to the disk before its 250; the last table says whether it did.",
		"Every message arrived exactly once, unchanged, and signed as expected, or its run failed.")
}

// servers are in the order of the rows.
func (r Result) servers() []string {
	var names []string
	if len(r.Cells) > 0 {
		for _, s := range r.Cells[0].Servers {
			names = append(names, s.Name)
		}
	}
	return names
}

func (r Result) verdict() string {
	hold, all := r.Goals()
	text := fmt.Sprintf("%d of %d goals hold", hold, all)
	if n := r.Failures(); n > 0 {
		text += fmt.Sprintf(", %d runs FAILED", n)
	}
	if r.Strays != "" {
		text += ": " + r.Strays
	}
	if r.Partial {
		text = "interrupted: " + text
	}
	return text
}

// WriteMarkdown writes the result for a page.
func (r Result) WriteMarkdown(w io.Writer) error {
	for _, line := range r.facts() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	for _, cell := range r.Cells {
		fmt.Fprintf(w, "\n**%s**\n\n", cell.title())
		markdownRow(w, "server", "accept/s", "end to end/s", "CPU ms/message", "MB", "harness ms")
		markdownRow(w, "---", "---", "---", "---", "---", "---")
		for _, s := range cell.Servers {
			row := s.row()
			markdownRow(w, row[0], row[1], row[3], row[5], row[6], row[7])
		}
		fmt.Fprintln(w)
		for _, ratio := range cell.Ratios {
			fmt.Fprintf(w, "- %s\n", ratio)
		}
		for _, remark := range cell.remarks() {
			fmt.Fprintf(w, "- %s\n", remark)
		}
	}
	if len(r.Syncs) > 0 {
		fmt.Fprintf(w, "\n**brought to the disk per message** (10 KiB, 20 connections, under strace)\n\n")
		markdownRow(w, "server", "sync calls", "O_SYNC writes", "before the 250")
		markdownRow(w, "---", "---", "---", "---")
		for _, s := range r.Syncs {
			markdownRow(w, s.row()...)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.verdict())
	return err
}

func markdownRow(w io.Writer, cells ...string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}
