package meter

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// recorded is what strace 6.1 wrote, shortened.
const recorded = `2763  1000000.000000 openat(AT_FDCWD</q>, "early", O_RDWR|O_CREAT|O_SYNC|O_CLOEXEC, 0600) = 9</q/early> <0.000040>
2763  1000001.000000 openat(AT_FDCWD</q>, "log", O_WRONLY|O_CREAT|O_DSYNC, 0600 <unfinished ...>
2761  1000001.000010 openat(AT_FDCWD</q>, "plain", O_RDWR) = 5</q/plain> <0.000040>
2763  1000001.000020 <... openat resumed>) = 7</q/log> <0.000020>
2763  1000001.100000 write(7</q/log>, ""..., 10000 <unfinished ...>
2761  1000001.100010 fsync(5</q/plain> <unfinished ...>
2762  1000001.100020 fdatasync(5</q/plain>) = 0 <0.000500>
2763  1000001.200000 <... write resumed>) = 10000 <0.100000>
2761  1000001.300000 <... fsync resumed>) = 0 <0.200000>
2761  1000001.310000 write(5</q/plain>, ""..., 10) = 10 <0.000010>
2761  1000001.320000 pwrite64(9</q/early>, ""..., 10, 0) = 10 <0.000010>
2761  1000001.330000 fsync(9<pipe:[17]>) = -1 EINVAL (Invalid argument) <0.000010>
2761  1000001.340000 writev(1<pipe:[17]>, [{iov_base=""..., iov_len=3}], 1) = 3 <0.000010>
2761  1000001.350000 sync_file_range(5</q/plain>, 0, 0, SYNC_FILE_RANGE_WRITE) = 0 <0.000010>
2761  1000001.360000 +++ exited with 0 +++
2762  1000009.000000 fsync(5</q/plain>) = 0 <0.000010>
2762  1000001.900000 fsync(5</q/plain> <unfinished ...>
`

func TestCountSyncs(t *testing.T) {
	at := func(seconds float64) time.Time { return time.Unix(1000000, int64(seconds*1e9)) }
	got, err := countSyncs(strings.NewReader(recorded), at(1), at(2))
	if err != nil || got.Calls != 3 || got.Writes != 2 {
		t.Errorf("got %+v, %v; want 3 calls and 2 writes", got, err)
	}
	for _, tt := range []struct {
		from, to float64
		want     bool
	}{{1, 2, true}, {1.1003, 1.1006, true}, {1.1006, 1.19, false}, {1.19, 1.21, true}, {1.36, 2, false}} {
		if got := got.Within(at(tt.from), at(tt.to)); got != tt.want {
			t.Errorf("within %v to %v: %v", tt.from, tt.to, got)
		}
	}
}

func TestHierarchies(t *testing.T) {
	const mounts = `cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpuacct,cpu 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
`
	want := []hierarchy{{"/sys/fs/cgroup/unified", "cpu.stat"}, {"/sys/fs/cgroup/cpu,cpuacct", "cpuacct.usage"}}
	if got := hierarchies(mounts); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParse(t *testing.T) {
	for file, text := range map[string]string{"cpu.stat": "usage_usec 994924\nuser_usec 1\n", "cpuacct.usage": "994924000\n"} {
		if got, err := parseUsage(file, text); err != nil || got != 994924*time.Microsecond {
			t.Errorf("%s: %v, %v", file, got, err)
		}
	}
	if _, err := parseUsage("cpu.stat", "user_usec 1\n"); err == nil {
		t.Error("no time, no error")
	}
	if s, ok := parseStat([]byte("7 (a) b) S 3 7 7 0 -1 0 0 0 0 0 100 20 30 4 20 0 1 0 9")); !ok || s != (stat{3, 154}) {
		t.Errorf("got %+v, %v", s, ok)
	}
	if _, ok := parseStat([]byte("7 (a) Z 3 7 7 0 -1 0 0 0 0 0 100 20 30 4 20 0 1 0 9")); ok {
		t.Error("a zombie lives")
	}
	if private, shared := parseStatm("1000 300 100 1 0 1 0\n"); private != 200 || shared != 100 {
		t.Errorf("got %d, %d", private, shared)
	}
	mounts := "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\ntmpfs /tm xfs rw 0 0\n"
	for dir, want := range map[string]string{"/": "ext4 on /dev/a (rw)", "/tmp": "tmpfs on tmpfs (rw)", "/usr": "ext4 on /dev/a (rw)"} {
		if got := filesystem(mounts, dir); got != want {
			t.Errorf("%s: got %q, want %q", dir, got, want)
		}
	}
}

// TestGroup: the time of a child that has ended counts, and none is left, as a
// control group (where we may make one) and as a process tree.
func TestGroup(t *testing.T) {
	for name, g := range map[string]*Group{"best": NewGroup(fmt.Sprintf("loadtest-meter-%d", os.Getpid())), "tree": {}} {
		t.Run(name, func(t *testing.T) {
			t.Log(g.Method())
			command := g.Command(context.Background(), "sh", "-c", `sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; echo; trap "" TERM; sleep 100 & wait; wait`)
			out, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			g.Started(command)
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			used, err := g.CPU()
			octets, processes := g.Memory()
			if err != nil || used < 10*time.Millisecond || octets < 100_000 || processes < 1 {
				t.Errorf("used %v, %v, memory %d of %d processes", used, err, octets, processes)
			}
			g.End(100 * time.Millisecond)
			if pids := g.PIDs(); len(pids) > 0 {
				t.Errorf("%v live", pids)
			}
			if _, err := os.Stat(g.dir); g.dir != "" && err == nil {
				t.Errorf("%s is left", g.dir)
			}
			if err := command.Wait(); err == nil {
				t.Error("ended by itself")
			}
		})
	}
}
