package meter

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Machine says on what was measured.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     string `json:"memory"`
	Kernel     string `json:"kernel"`
	OS         string `json:"os"`
	Filesystem string `json:"filesystem"`
	Go         string `json:"go"`
	// Load is the load average over the last minute before the start.
	Load string `json:"load_before"`
}

// DescribeMachine reads it from /proc; dir is where the servers keep their
// mail. What cannot be read stays empty.
func DescribeMachine(dir string) Machine {
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	return Machine{
		CPU:        field("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Memory:     field("/proc/meminfo", "MemTotal"),
		Kernel:     strings.TrimSpace(read("/proc/sys/kernel/ostype") + " " + read("/proc/sys/kernel/osrelease")),
		OS:         strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`),
		Filesystem: filesystem(read("/proc/mounts"), dir),
		Go:         runtime.Version(),
		Load:       load,
	}
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

// field is the first value with this name in a file of names and values.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		at := strings.IndexAny(lines.Text(), ":=")
		if at > 0 && strings.TrimSpace(lines.Text()[:at]) == name {
			return strings.TrimSpace(lines.Text()[at+1:])
		}
	}
	return ""
}

// filesystem is device, type and options of the mount that has dir.
func filesystem(mounts, dir string) string {
	dir, _ = filepath.EvalSymlinks(dir)
	best, found := "", ""
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		mount := strings.TrimSuffix(fields[1], "/")
		if (dir+"/" == mount+"/" || strings.HasPrefix(dir, mount+"/")) && len(mount) >= len(best) {
			best, found = mount, fields[2]+" on "+fields[0]+" ("+fields[3]+")"
		}
	}
	return found
}
