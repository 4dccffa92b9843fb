package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrUnusable is wrapped by every error of the readers: a witness that cannot
// be understood proves nothing, in either direction.
var ErrUnusable = errors.New("unusable journal")

// Tail says what an unfinished last line means.
type Tail int

const (
	// Whole means that the file must end with a newline; used for the ledger export,
	// where a missing end may hide rows.
	Whole Tail = iota
	// MayBeCut means that an unfinished last line is left out; used for the journals
	// of programs that may be killed.
	MayBeCut
)

// ReadFile reads all lines of the file at path. ErrUnusable names the line.
func ReadFile[T any](path string, tail Tail) ([]T, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	defer file.Close()
	lines, err := Read[T](file, tail)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return lines, nil
}

// Read reads lines until the end. Empty lines are passed over; fields that
// are not known are ignored, as a later release may add some.
func Read[T any](r io.Reader, tail Tail) ([]T, error) {
	var out []T
	in := bufio.NewReaderSize(r, 256<<10)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("%w: line %d: %w", ErrUnusable, number, err)
		}
		cut := err == io.EOF
		if len(bytes.TrimSpace(text)) > 0 && !(cut && tail == MayBeCut) {
			if cut {
				return nil, fmt.Errorf("%w: line %d is unfinished", ErrUnusable, number)
			}
			var line T
			if err := json.Unmarshal(text, &line); err != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrUnusable, number, err)
			}
			out = append(out, line)
		}
		if cut {
			return out, nil
		}
	}
}
