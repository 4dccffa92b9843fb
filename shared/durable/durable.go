// Package durable writes files that are there whole or not at all: whoever is
// killed meanwhile, and after a power failure, nobody finds a part of them.
// Files have mode 0600, directories 0700.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Dir makes a directory with its files, by name, in one step. A directory of
// that name that holds anything is an error that wraps fs.ErrExist or ENOTEMPTY,
// and stays as it is.
func Dir(dir string, files map[string][]byte) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	made, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-*")
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	defer os.RemoveAll(made) // gone already when it has its name
	for name, content := range files {
		f, err := os.OpenFile(filepath.Join(made, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = fill(f, content)
		}
		if err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := os.Rename(made, dir); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return nil
}

// File writes a file, or replaces it, in one step.
func File(file string, content []byte) error {
	made, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(made.Name()) // gone already when it has its name
	if err := fill(made, content); err != nil {
		return err
	}
	return os.Rename(made.Name(), file)
}

// fill writes and syncs an open file, and closes it.
func fill(f *os.File, content []byte) error {
	_, err := f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
