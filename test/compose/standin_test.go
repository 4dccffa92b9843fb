//go:build compose

package compose

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Images that the compose set begins with.
const (
	builderImage = "golang:1.26-bookworm"
	busImage     = "nats:2.15"
)

// standIn marks an image that was made in place of one that could not be had.
const standIn = "test.postrider.stand-in"

// provideImages makes what the engine lacks.
func (e *engine) provideImages() {
	e.t.Helper()
	e.provide(builderImage, e.addBuilder,
		"ENV PATH=/usr/local/go/bin:/usr/bin", "ENV GOPATH=/go", "ENV GOTOOLCHAIN=local", "ENV GOPROXY=file:///modules", "ENV GOSUMDB=off")
	e.provide(busImage, e.addBus, `ENTRYPOINT ["/nats-server"]`, `CMD ["--config", "nats-server.conf"]`)
}

// provide makes an image of the files that add writes, unless the engine has
// it. A stand-in that an earlier test left behind is made again.
func (e *engine) provide(name string, add func(*archive), changes ...string) {
	e.t.Helper()
	label, err := e.try(e.ctx, nil, "docker", "image", "inspect", "--format", `{{index .Config.Labels "`+standIn+`"}}`, name)
	if err == nil && strings.TrimSpace(label) == "" {
		e.t.Logf("%s: the engine's own", name)
		return
	}
	began := time.Now()
	read, write := io.Pipe()
	go func() {
		a := &archive{tar: tar.NewWriter(write)}
		add(a)
		write.CloseWithError(errors.Join(a.err, a.tar.Close()))
	}()
	args := []string{"import", "--change", "LABEL " + standIn + "=1"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	if _, err := e.try(e.ctx, read, "docker", append(args, "-", name)...); err != nil {
		e.t.Fatal(err)
	}
	// Stages that were built on it are removed with it.
	e.clean("docker", "image", "prune", "--force", "--filter", "label="+standIn)
	e.clean("docker", "image", "rm", name)
	e.t.Logf("%s: made from this machine in %s, %s octets", name, time.Since(began).Round(time.Second),
		e.run("docker", "image", "inspect", "--format", "{{.Size}}", name))
}

// addBuilder adds Go, a shell, the modules of the workspace as a module proxy,
// the authorities of this machine, and its C compiler.
func (e *engine) addBuilder(a *archive) {
	for _, name := range []string{"bin", "lib", "lib64"} {
		a.link(name, "usr/"+name)
	}
	root, err := e.try(e.ctx, nil, "go", "env", "GOROOT")
	a.failed(err)
	for _, part := range []string{"bin", "lib", "pkg", "src", "go.env", "VERSION"} {
		a.tree("usr/local/go/"+part, filepath.Join(strings.TrimSpace(root), part))
	}
	modules, err := e.modules()
	a.failed(err)
	a.tree("modules", modules)
	shell, err := e.busybox()
	a.failed(err)
	a.file("usr/bin/busybox", shell)
	for _, name := range []string{"sh", "find", "rm", "mkdir", "ls", "mv", "cp", "grep", "cat"} {
		a.link("usr/bin/"+name, "busybox")
	}
	a.add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	a.file("etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	e.addCompiler(a)
}

// addBus adds the nats-server of the workspace.
func (e *engine) addBus(a *archive) {
	program := filepath.Join(e.t.TempDir(), "nats-server")
	_, err := e.try(e.ctx, nil, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", program, "github.com/nats-io/nats-server/v2")
	a.failed(err)
	a.file("nats-server", program)
}

// modules is a directory that serves the modules of the workspace as GOPROXY.
// It is filled from the module cache, which is completed first.
func (e *engine) modules() (string, error) {
	if _, err := e.try(e.ctx, nil, "go", "mod", "download"); err != nil {
		return "", err
	}
	cache, err := e.try(e.ctx, nil, "go", "env", "GOMODCACHE")
	if err != nil {
		return "", err
	}
	dir := e.t.TempDir()
	_, err = e.try(e.ctx, nil, "env", "GOMODCACHE="+dir, "GOFLAGS=-modcacherw", "GOSUMDB=off",
		"GOPROXY=file://"+filepath.Join(strings.TrimSpace(cache), "cache", "download"), "go", "mod", "download")
	return filepath.Join(dir, "cache", "download"), err
}

// busybox is a static one, which is installed if need be.
func (e *engine) busybox() (string, error) {
	program, err := static("busybox")
	if err == nil {
		return program, nil
	}
	e.t.Logf("%v: installing the Debian package busybox-static", err)
	ctx, cancel := context.WithTimeout(e.ctx, 2*time.Minute)
	defer cancel()
	_, failed := e.try(ctx, nil, "apt-get", "install", "--yes", "busybox-static")
	if program, err = static("busybox"); err != nil {
		return "", fmt.Errorf("the stand-in for %s needs a shell: %w", builderImage, errors.Join(err, failed))
	}
	return program, nil
}

// static finds a program that needs no library.
func static(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	f, err := elf.Open(program)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s is not static", program)
		}
	}
	return program, nil
}

// archive is a tar file in the making. After the first error it does nothing.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) failed(err error) {
	if a.err == nil {
		a.err = err
	}
}

// add writes one entry.
func (a *archive) add(h *tar.Header, content io.Reader) {
	if a.err != nil {
		return
	}
	if a.failed(a.tar.WriteHeader(h)); a.err == nil && content != nil {
		_, err := io.Copy(a.tar, content)
		a.failed(err)
	}
}

// link adds a symbolic link.
func (a *archive) link(name, to string) {
	a.add(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}, nil)
}

// file adds a file of this machine, through symbolic links.
func (a *archive) file(name, path string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		a.failed(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.failed(err)
		return
	}
	a.add(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm() | 0o444), Size: info.Size()}, f)
}

// tree adds the regular files under a path of this machine.
func (a *archive) tree(name, path string) {
	a.failed(filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || a.err != nil || !d.Type().IsRegular() {
			return errors.Join(err, a.err)
		}
		within, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		a.file(filepath.Join(name, within), p)
		return a.err
	}))
}
