package meter

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Syncs counts what was brought to the disk.
type Syncs struct {
	// Calls of fsync, fdatasync, sync_file_range, msync and syncfs.
	Calls int
	// Writes to files that were opened with O_SYNC or O_DSYNC.
	Writes int

	ended []time.Time // of all of them
}

// Within reports that one of them ended in the interval.
func (s Syncs) Within(from, to time.Time) bool {
	for _, at := range s.ended {
		if at.After(from) && at.Before(to) {
			return true
		}
	}
	return false
}

// CanTrace reports whether strace is there.
func CanTrace() bool {
	_, err := exec.LookPath("strace")
	return err == nil
}

// StraceWrap is what comes before the command of a server whose calls are to be
// recorded in the file at path, by strace. That slows it down: nothing else is
// measured meanwhile. Only the calls that are named stop the server
// (--seccomp-bpf). Paths are shown (-y), so that a write tells to what.
func StraceWrap(path string) []string {
	return []string{
		"strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-T", "-ttt", "--signal=none", "-o", path,
		"-e", "trace=fsync,fdatasync,sync_file_range,msync,syncfs,open,openat,write,writev,pwrite64,pwritev,pwritev2", "--",
	}
}

// SlowWrap is what comes before the command of a server whose every sync is to
// take longer by delay, as on a slower disk. It stops the server at syncs only.
func SlowWrap(delay time.Duration) []string {
	return []string{
		"strace", "-f", "--seccomp-bpf", "-qq", "--signal=none", "-o", os.DevNull, "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", delay.Microseconds()), "--",
	}
}

// CountSyncs counts in a recording what began between the two times.
func CountSyncs(path string, from, to time.Time) (Syncs, error) {
	file, err := os.Open(path)
	if err != nil {
		return Syncs{}, err
	}
	defer file.Close()
	return countSyncs(file, from, to)
}

func countSyncs(r io.Reader, from, to time.Time) (Syncs, error) {
	t := tracing{open: map[string]call{}, synchronous: map[string]bool{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if c, ok := t.line(lines.Text()); ok && !c.began.Before(from) && !c.began.After(to) {
			t.count(c)
		}
	}
	if err := lines.Err(); err != nil {
		return Syncs{}, fmt.Errorf("read what strace wrote: %w", err)
	}
	return t.syncs, nil
}

// call is one system call.
type call struct {
	name         string
	text         string // arguments and result
	began, ended time.Time
}

// tracing is what is known while the lines are read.
type tracing struct {
	open        map[string]call // by process: begun, not ended
	synchronous map[string]bool // files opened with O_SYNC or O_DSYNC
	syncs       Syncs
}

var (
	// 7311  1763760000.123456 fsync(5</var/q/1>) = 0 <0.000101>
	// 7311  1763760000.123456 fsync(5</var/q/1> <unfinished ...>
	callLine = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (\w+)\((.*)$`)
	// 7311  1763760000.123456 <... fsync resumed>) = 0 <0.000101>
	resumedLine = regexp.MustCompile(`^(\d+) +(\d+\.\d+) <\.\.\. \w+ resumed>(.*)$`)
	// openat(…, O_RDWR|O_SYNC, 0666) = 5</var/q/1> <0.000101>
	openedPath = regexp.MustCompile(`\) = \d+<(.*?)>(?: <|$)`)
	writtenTo  = regexp.MustCompile(`^\d+<(.*?)>,`)
	result     = regexp.MustCompile(`\) = (\S+)`)
	duration   = regexp.MustCompile(` <(\d+\.\d+)>$`)
)

const unfinished = " <unfinished ...>"

// line returns the call that ended with this line. Calls of several processes
// interrupt each other's lines.
func (t *tracing) line(text string) (call, bool) {
	if m := resumedLine.FindStringSubmatch(text); m != nil {
		c, ok := t.open[m[1]]
		delete(t.open, m[1])
		c.text += m[3]
		c.ended = epoch(m[2])
		return c, ok && t.opened(c)
	}
	m := callLine.FindStringSubmatch(text)
	if m == nil {
		return call{}, false
	}
	c := call{name: m[3], text: m[4], began: epoch(m[2])}
	if begun, ok := strings.CutSuffix(c.text, unfinished); ok {
		c.text = begun
		t.open[m[1]] = c
		return call{}, false
	}
	c.ended = c.began
	if d := duration.FindStringSubmatch(c.text); d != nil {
		c.ended = c.began.Add(epoch(d[1]).Sub(time.Unix(0, 0)))
	}
	return c, t.opened(c)
}

// opened remembers a file opened for synchronous writing, and reports whether
// the call is any other.
func (t *tracing) opened(c call) bool {
	if !strings.HasPrefix(c.name, "open") {
		return true
	}
	if m := openedPath.FindStringSubmatch(c.text); m != nil && (strings.Contains(c.text, "O_SYNC") || strings.Contains(c.text, "O_DSYNC")) {
		t.synchronous[m[1]] = true
	}
	return false
}

func (t *tracing) count(c call) {
	if m := result.FindStringSubmatch(c.text); m == nil || strings.HasPrefix(m[1], "-") {
		return // failed, or never ended
	}
	if strings.Contains(c.name, "write") {
		m := writtenTo.FindStringSubmatch(c.text)
		if m == nil || !t.synchronous[m[1]] {
			return
		}
		t.syncs.Writes++
	} else {
		t.syncs.Calls++
	}
	t.syncs.ended = append(t.syncs.ended, c.ended)
}

// epoch reads seconds with a fraction of six digits.
func epoch(text string) time.Time {
	seconds, fraction, _ := strings.Cut(text, ".")
	s, _ := strconv.ParseInt(seconds, 10, 64)
	micro, _ := strconv.ParseInt(fraction, 10, 64)
	return time.Unix(s, micro*1000)
}
