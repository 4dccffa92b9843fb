//go:build crashpoints

package crashpoints

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// calls are what tells something to somebody, or makes it last. Go sends by
// write on sockets, too; the others are of the resolver and of SQLite.
var calls = []string{"write", "writev", "pwrite64", "sendto", "sendmsg", "sendmmsg", "fsync", "fdatasync", "sync_file_range", "rename", "renameat", "renameat2", "ftruncate", "unlink", "unlinkat"}

// tracer is an strace on a process.
type tracer struct {
	cmd  *exec.Cmd
	file string
}

// attach traces calls of a process, with what else strace is told, and returns
// when it is attached to all threads.
func attach(t *testing.T, pid int, calls string, more ...string) *tracer {
	t.Helper()
	tr := &tracer{file: filepath.Join(t.TempDir(), "trace")}
	args := append([]string{"-f", "-s", "60", "-o", tr.file, "-e", "signal=none", "-e", "trace=" + calls, "-p", strconv.Itoa(pid)}, more...)
	tr.cmd = exec.Command("strace", args...)
	said, err := tr.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "attached") {
			go func() {
				for lines.Scan() {
				}
			}()
			return tr
		}
	}
	t.Fatalf("strace did not attach to %d: %v %s", pid, tr.cmd.Wait(), lines.Text())
	return nil
}

// detach lets the process go on alone; when it is dead, strace has ended.
func (tr *tracer) detach() {
	tr.cmd.Process.Signal(syscall.SIGINT)
	tr.cmd.Wait()
}

var callLine = regexp.MustCompile(`^(\d+)\s+([a-z0-9_]+)\((.*)`)

// counts are how many calls of each kind the busiest thread made: the largest
// n at which an injection fires.
func (tr *tracer) counts(t *testing.T) map[string]int {
	t.Helper()
	perThread, most := map[string]int{}, map[string]int{}
	for line := range tr.lines(t) {
		if m := callLine.FindStringSubmatch(line); m != nil {
			perThread[m[1]+m[2]]++
			most[m[2]] = max(most[m[2]], perThread[m[1]+m[2]])
		}
	}
	return most
}

// last is the call that was entered last, in words that are the same whenever
// the process is at the same point.
func (tr *tracer) last(t *testing.T) string {
	t.Helper()
	last := "?"
	for line := range tr.lines(t) {
		if m := callLine.FindStringSubmatch(line); m != nil {
			last = m[2] + " " + describe(m[3])
		}
	}
	return last
}

func (tr *tracer) lines(t *testing.T) func(func(string) bool) {
	t.Helper()
	text, err := os.ReadFile(tr.file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Lines(string(text))
}

var (
	quoted   = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"[.]*, (?:\[.*\], )?([0-9]+)`)
	inbox    = regexp.MustCompile(`_INBOX\S*|\$JS\.ACK\S*`)
	variable = regexp.MustCompile(`[0-9A-Z]{16}|[0-9]+|p[0-9]{4}`)
	opaque   = regexp.MustCompile(`\\[0-9a-fv]`)
)

// describe is what a call writes, without what differs from run to run.
func describe(arguments string) string {
	m := quoted.FindStringSubmatch(arguments)
	if m == nil {
		return ""
	}
	text, _, _ := strings.Cut(m[1], `\r`)
	switch {
	case opaque.MatchString(m[1]):
		return m[2] + " octets"
	case strings.Trim(text, filler+`\n`) == "":
		return "content"
	}
	text = inbox.ReplaceAllString(text, "…")
	return strings.TrimSpace(variable.ReplaceAllString(text, "#"))
}
