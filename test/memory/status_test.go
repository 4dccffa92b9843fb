//go:build memory

package memory

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resident is the memory of a process, in octets.
type resident struct{ now, peak int64 }

// residentOf reads the kernel's books on a process.
func residentOf(pid int) (resident, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return resident{}, err
	}
	var r resident
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		at := map[string]*int64{"VmRSS": &r.now, "VmHWM": &r.peak}[name]
		if at == nil {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return resident{}, fmt.Errorf("read %s: %w", name, err)
		}
		*at = kib << 10
	}
	return r, nil
}

// forgetPeak lets the peak of a process begin again at what it has now.
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}

// watch samples the memory of processes until stop is called, which returns
// the highest sample of each: a second witness beside the kernel's peak.
func watch(t *testing.T, pids map[string]int) (stop func() map[string]int64) {
	t.Helper()
	end, result := make(chan struct{}), make(chan map[string]int64)
	go func() {
		highest := map[string]int64{}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			for name, pid := range pids {
				if r, err := residentOf(pid); err == nil {
					highest[name] = max(highest[name], r.now)
				}
			}
			select {
			case <-tick.C:
			case <-end:
				result <- highest
				return
			}
		}
	}()
	return func() map[string]int64 {
		close(end)
		return <-result
	}
}
