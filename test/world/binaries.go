package world

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// directory is where the programs of a package's tests lie.
var directory = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "postrider-bin") })

// Main runs the tests of a package, for its TestMain, and removes what
// Binaries built for them: some 200 MB.
func Main(m *testing.M) int {
	code := m.Run()
	if dir, err := directory(); err == nil {
		os.RemoveAll(dir)
	}
	return code
}

// build builds the programs once for all tests of a package.
var build = sync.OnceValues(func() (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	const root = "github.com/postrider/postrider/"
	args := []string{"build", "-o", dir + "/", root + "cmd/postrider", root + "cmd/mxsink", root + "loadtest", "github.com/nats-io/nats-server/v2"}
	for _, s := range services {
		args = append(args, root+"services/"+s+"/cmd/"+s)
	}
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// Binaries is the directory of the programs, built from this tree.
func Binaries(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
