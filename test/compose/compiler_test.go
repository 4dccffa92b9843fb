//go:build compose

package compose

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// addCompiler adds what Go and ldd need of this machine for a program in C and
// OpenSSL. Without gcc the builder has none either, and its programs are
// static.
func (e *engine) addCompiler(a *archive) {
	if _, err := exec.LookPath("gcc"); err != nil {
		e.t.Logf("the stand-in for %s has no C compiler: %v", builderImage, err)
		return
	}
	files, err := e.compiler()
	a.failed(err)
	for _, path := range files {
		// Where it is after all links of directories: /lib is one in the image.
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		a.failed(err)
		a.file(strings.TrimPrefix(filepath.Join(dir, filepath.Base(path)), "/"), path)
	}
}

// compiler are the files of gcc for C, of libc to compile against, of ldd, and
// of libcrypto.
func (e *engine) compiler() ([]string, error) {
	version, err := e.try(e.ctx, nil, "gcc", "-dumpversion")
	if err != nil {
		return nil, err
	}
	listed, err := e.try(e.ctx, nil, "dpkg", "-L", "libc6-dev", "linux-libc-dev", "libgcc-"+strings.TrimSpace(version)+"-dev")
	if err != nil {
		return nil, err
	}
	var files []string
	for path := range strings.Lines(listed) {
		path = strings.TrimSpace(path)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && !strings.HasPrefix(path, "/usr/share/") {
			files = append(files, path)
		}
	}
	for _, name := range []string{"gcc", "cc1", "collect2", "liblto_plugin.so", "as", "ld", "bash", "libgcc_s.so.1", "libcrypto.so.3"} {
		path, err := e.gccFinds(name)
		if err != nil {
			return nil, err
		}
		libraries, err := e.try(e.ctx, nil, "ldd", path)
		if err != nil {
			return nil, err
		}
		files = append(files, path)
		for _, word := range strings.Fields(libraries) {
			if filepath.IsAbs(word) {
				files = append(files, word)
			}
		}
	}
	ldd, err := exec.LookPath("ldd")
	slices.Sort(files)
	return append(slices.Compact(files), ldd), err
}

// gccFinds is a program in PATH, or a program or a library where gcc has it.
func (e *engine) gccFinds(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, question := range []string{"-print-prog-name=", "-print-file-name="} {
		path, err := e.try(e.ctx, nil, "gcc", question+name)
		if err != nil {
			return "", err
		}
		if path = strings.TrimSpace(path); filepath.IsAbs(path) {
			return filepath.Clean(path), nil
		}
	}
	return "", fmt.Errorf("the stand-in for %s: gcc does not find %s", builderImage, name)
}
