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

// layout is everything that an image may have: the program, the authorities,
// and the place for a volume.
var layout = []string{"data/", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "program"}

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
