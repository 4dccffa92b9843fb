//go:build compose

package compose

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// layout is everything that the image of a static program may have: the
// program, the authorities, and the place for a volume.
var layout = []string{"data/", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "program"}

// libraries are what the image of a program that signs by OpenSSL has besides,
// as Debian has them on amd64.
var libraries = []string{
	"lib/", "lib/x86_64-linux-gnu/", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libcrypto.so.3",
	"lib64/", "lib64/ld-linux-x86-64.so.2",
}

// signing is whether the program in an image signs.
func signing(image string) bool {
	return strings.HasSuffix(image, "signer") || strings.HasSuffix(image, "postrider")
}

// lean: each image has its program, the libraries by which it signs, the
// authorities and an empty directory.
func (p *project) lean() {
	p.docker("build", "postrider")
	images := strings.Fields(p.run("docker", "image", "ls", "--format", "{{.Repository}}", "--filter", "reference="+p.name+"*"))
	if want := len(services) + 2; len(images) != want { // and the sink, and the people's program
		p.t.Errorf("%d images, want %d: %v", len(images), want, images)
	}
	openSSL := p.openSSL()
	for _, image := range images {
		want := layout
		if openSSL && signing(image) {
			want = slices.Sorted(slices.Values(slices.Concat(layout, libraries)))
		}
		if got := p.entries(image); !slices.Equal(got, want) {
			p.t.Errorf("%s holds %v, want %v", image, got, want)
		}
		user, size, _ := strings.Cut(p.run("docker", "image", "inspect", "--format", "{{.Config.User}} {{.Size}}", image), " ")
		if user != "65532:65532" {
			p.t.Errorf("%s runs as %q", image, user)
		}
		p.t.Logf("%s: %s octets", image, size)
	}
}

// signed: the signer says by what it signs, which is OpenSSL where the builder
// has it.
func (p *project) signed() {
	var said string
	for line := range strings.Lines(p.docker("logs", "--no-color", "signer")) {
		if strings.Contains(line, `"signing"`) && strings.Contains(line, "a=rsa-sha256") {
			said = line
		}
	}
	if openSSL := p.openSSL(); said == "" || openSSL == strings.Contains(said, "not_by_openssl") {
		p.t.Errorf("the builder has OpenSSL and a compiler: %t; the signer says %q", openSSL, said)
	}
}

// openSSL is whether programs are built to sign by it.
func (e *engine) openSSL() bool {
	e.t.Helper()
	has := e.run("docker", "run", "--rm", "--network", "none", builderImage, "sh", "-c", "go env CGO_ENABLED; find /usr/lib /lib -name libcrypto.so.3")
	return strings.HasPrefix(has, "1") && strings.Contains(has, "libcrypto")
}

// entries are the names of what is in an image.
func (e *engine) entries(image string) []string {
	e.t.Helper()
	file := filepath.Join(e.t.TempDir(), "image.tar")
	e.run("docker", "image", "save", "--output", file, image)
	var manifest []struct{ Layers []string }
	e.each(file, func(name string, r io.Reader) error {
		if name == "manifest.json" {
			return json.NewDecoder(r).Decode(&manifest)
		}
		return nil
	})
	if len(manifest) != 1 {
		e.t.Fatalf("%s: %d images in one", image, len(manifest))
	}
	var all []string
	e.each(file, func(name string, r io.Reader) error {
		if !slices.Contains(manifest[0].Layers, name) {
			return nil
		}
		layer, err := unpacked(r)
		if err != nil {
			return err
		}
		return walk(tar.NewReader(layer), func(h *tar.Header, _ io.Reader) error {
			all = append(all, h.Name)
			return nil
		})
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// each calls do for each entry of a tar file.
func (e *engine) each(file string, do func(name string, r io.Reader) error) {
	e.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		e.t.Fatal(err)
	}
	defer f.Close()
	if err := walk(tar.NewReader(f), func(h *tar.Header, r io.Reader) error { return do(strings.TrimPrefix(h.Name, "./"), r) }); err != nil {
		e.t.Fatal(err)
	}
}

// unpacked is a layer as a tar file; engines differ in whether they compress.
func unpacked(r io.Reader) (io.Reader, error) {
	layer := bufio.NewReader(r)
	if magic, err := layer.Peek(2); err != nil || string(magic) != "\x1f\x8b" { // RFC 1952 §2.3.1
		return layer, err
	}
	return gzip.NewReader(layer)
}

func walk(r *tar.Reader, do func(*tar.Header, io.Reader) error) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(h, r); err != nil {
			return err
		}
	}
}
