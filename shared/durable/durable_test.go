package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	for _, content := range []string{"first, and longer", "second"} {
		if err := File(file, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	}
	alone(t, filepath.Dir(file))
	if err := File(filepath.Join(file, "below a file"), nil); err == nil {
		t.Error("no error")
	}
}

func TestDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "parent", "d")
	if err := Dir(dir, map[string][]byte{"k": []byte("key"), "c": []byte("cert")}); err != nil {
		t.Fatal(err)
	}
	// A second one leaves the first as it is, and nothing behind.
	if err := Dir(dir, map[string][]byte{"k": []byte("other")}); err == nil {
		t.Error("replaced")
	}
	got, err := os.ReadFile(filepath.Join(dir, "k"))
	info, statErr := os.Stat(filepath.Join(dir, "k"))
	if err != nil || statErr != nil || string(got) != "key" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", got, err, statErr)
	}
	alone(t, filepath.Dir(dir))
}

// alone wants exactly one entry: no temporary one is left over.
func alone(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
