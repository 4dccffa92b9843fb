// Package meter measures a server from the outside: the processor time and
// the memory of all its processes, and how often it asks the kernel to bring
// something to the disk.
//
// A Group holds the processes of one server, those started later included. It
// is a control group where that is possible (version 2, else the cpuacct
// hierarchy of version 1): the kernel then counts, to the nanosecond, also
// processes that have ended. Elsewhere it is the process tree in /proc, whose
// clock ticks are 10 ms and which forgets a process that ends after its
// parent; it is accurate enough for runs of seconds.
//
// Limits: Linux only. A process that moves itself to another control group is
// no longer seen.
package meter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Group is the processes of one server.
type Group struct {
	dir   string // of the control group; empty: the process tree
	usage string // file in it that has the processor time
	roots []int  // processes started by us
}

// NewGroup makes an empty group. The name must be unique on the machine.
func NewGroup(name string) *Group {
	mounts, _ := os.ReadFile("/proc/mounts")
	for _, h := range hierarchies(string(mounts)) {
		g := &Group{dir: filepath.Join(h.mount, name), usage: h.usage}
		if g.create() == nil {
			return g
		}
	}
	return &Group{}
}

type hierarchy struct{ mount, usage string }

// hierarchies are the control group hierarchies that count processor time,
// version 2 first: it counts in every group, whatever controllers are on.
func hierarchies(mounts string) []hierarchy {
	var first, second []hierarchy
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 4:
		case fields[2] == "cgroup2":
			first = append(first, hierarchy{fields[1], "cpu.stat"})
		case fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), "cpuacct"):
			second = append(second, hierarchy{fields[1], "cpuacct.usage"})
		}
	}
	return append(first, second...)
}

// create makes the control group and tries whether a process may enter it.
func (g *Group) create() error {
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return err
	}
	err := g.Command(context.Background(), "true").Run()
	if err == nil {
		_, err = g.CPU()
	}
	if err != nil {
		g.remove()
	}
	return err
}

// Method says how the group counts.
func (g *Group) Method() string {
	switch g.usage {
	case "":
		return "process tree in /proc"
	case "cpu.stat":
		return "control group, version 2"
	}
	return "control group, version 1"
}

// Command is a program that will run in the group, in a session of its own: an
// interrupt at the terminal reaches only us. Call Started after its Start.
func (g *Group) Command(ctx context.Context, argv ...string) *exec.Cmd {
	if g.dir != "" {
		argv = append([]string{"/bin/sh", "-c", `echo 0 >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, argv...)
	}
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command
}

// Started names a process that was started with Command.
func (g *Group) Started(command *exec.Cmd) { g.roots = append(g.roots, command.Process.Pid) }

// CPU is the processor time that the processes of the group have used since it
// was made.
func (g *Group) CPU() (time.Duration, error) {
	if g.dir == "" {
		return treeCPU(g.PIDs()), nil
	}
	text, err := os.ReadFile(filepath.Join(g.dir, g.usage))
	if err != nil {
		return 0, err
	}
	return parseUsage(g.usage, string(text))
}

func parseUsage(file, text string) (time.Duration, error) {
	unit := time.Nanosecond
	if file == "cpu.stat" {
		unit = time.Microsecond
		_, text, _ = strings.Cut("\n"+text, "\nusage_usec ")
		text, _, _ = strings.Cut(text, "\n")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(n) * unit, nil
}

// PIDs are the processes that live now.
func (g *Group) PIDs() []int {
	if g.dir == "" {
		return descendants(g.roots)
	}
	file, err := os.Open(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	defer file.Close()
	var pids []int
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if pid, err := strconv.Atoi(lines.Text()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Memory is the resident memory of the group in octets, and the number of its
// processes. The memory is what each process has
// for itself, and once the largest part that one of them shares with others
// (program text, libraries). It is near the sum of PSS, which takes the kernel
// many times as long to tell, time that a server of 250 processes would miss.
func (g *Group) Memory() (octets int64, processes int) {
	var private, shared int64
	pids := g.PIDs()
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		p, s := parseStatm(string(text))
		private += p
		shared = max(shared, s)
	}
	return (private + shared) * int64(os.Getpagesize()), len(pids)
}

// parseStatm returns the pages a process has for itself and those it shares.
func parseStatm(text string) (private, shared int64) {
	fields := strings.Fields(text)
	if len(fields) < 3 {
		return 0, 0
	}
	resident, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ = strconv.ParseInt(fields[2], 10, 64)
	return resident - shared, shared
}

// End ends every process of the group: politely, and after the grace by
// force. It returns when none lives.
func (g *Group) End(grace time.Duration) {
	known := g.PIDs()
	signal(known, syscall.SIGTERM)
	deadline := time.Now().Add(grace)
	for pids := known; len(pids) > 0; pids = g.left(known) {
		if time.Now().After(deadline) {
			signal(pids, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	g.remove()
}

// remove removes the control group. For a moment after its last process has
// ended the kernel still says that it is busy.
func (g *Group) remove() {
	if g.dir == "" {
		return
	}
	for range 100 {
		if err := os.Remove(g.dir); !errors.Is(err, syscall.EBUSY) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// left is what lives of the group. In the process tree those whose parent has
// ended are found by having been known before.
func (g *Group) left(known []int) []int {
	pids := g.PIDs()
	if g.dir == "" {
		pids = append(pids, known...)
		slices.Sort(pids)
		pids = slices.Compact(pids)
	}
	return slices.DeleteFunc(pids, func(pid int) bool { _, ok := readStat(pid); return !ok })
}

func signal(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may have ended by itself
	}
}

// stat is what /proc says about a process.
type stat struct {
	parent int
	ticks  int64 // used by it and by its children that have ended
}

// tick is the unit of times in /proc, 1/100 s on every Linux platform of Go.
const tick = 10 * time.Millisecond

// readStat reports false for a process that has ended, waited for or not.
func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The name in it may contain anything.
func parseStat(text []byte) (stat, bool) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 || fields[0] == "Z" {
		return stat{}, false
	}
	var s stat
	s.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] {
		n, _ := strconv.ParseInt(field, 10, 64)
		s.ticks += n
	}
	return s, true
}

func treeCPU(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		s, _ := readStat(pid)
		ticks += s.ticks
	}
	return time.Duration(ticks) * tick
}

// descendants are the roots that live and all their children.
func descendants(roots []int) []int {
	children := map[int][]int{}
	directories, _ := filepath.Glob("/proc/[0-9]*")
	for _, directory := range directories {
		pid, _ := strconv.Atoi(filepath.Base(directory))
		if s, ok := readStat(pid); ok {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	var all []int
	for _, root := range roots {
		if _, ok := readStat(root); ok {
			all = append(all, root)
		}
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
