package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Writer appends lines to a journal. It may be used by many goroutines.
type Writer struct {
	file    *os.File
	durable bool

	mu      sync.Mutex
	changed *sync.Cond
	written int64 // lines handed to the operating system
	synced  int64 // lines known to be on the disk
	syncing bool  // one goroutine is in fsync for all that wait
	err     error // the first failure; the journal is worthless after it
}

// Open opens the journal at path for appending, and creates it if need be. An
// unfinished last line, left by a writer that was killed, is cut off. With
// durable, Append returns after fsync; many appends share one.
func Open(path string, durable bool) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := seekPastLastLine(file); err != nil {
		return nil, errors.Join(fmt.Errorf("repair journal: %w", err), file.Close())
	}
	w := &Writer{file: file, durable: durable}
	w.changed = sync.NewCond(&w.mu)
	return w, nil
}

// seekPastLastLine leaves the offset behind the last newline and the file
// without anything after it.
func seekPastLastLine(file *os.File) error {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	const step = 64 << 10
	buffer := make([]byte, step)
	for end > 0 {
		start := max(0, end-step)
		chunk := buffer[:end-start]
		if _, err := file.ReadAt(chunk, start); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			end = start + int64(i) + 1
			break
		}
		end = start
	}
	if err := file.Truncate(end); err != nil {
		return err
	}
	_, err = file.Seek(end, io.SeekStart)
	return err
}

// Append writes the lines with one write. After a failure every further call
// fails: a witness with a gap is no witness.
func (w *Writer) Append(lines ...any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("encode journal line: %w", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if _, err := w.file.Write(text.Bytes()); err != nil {
		w.err = fmt.Errorf("write journal: %w", err)
		return w.err
	}
	w.written++
	if w.durable {
		w.waitSynced(w.written)
	}
	return w.err
}

// waitSynced returns when line n is on the disk. Whoever finds nobody in fsync
// goes there for everyone that has written so far. The caller holds mu.
func (w *Writer) waitSynced(n int64) {
	for w.synced < n && w.err == nil {
		if w.syncing {
			w.changed.Wait()
			continue
		}
		w.syncing = true
		upTo := w.written
		w.mu.Unlock()
		err := w.file.Sync()
		w.mu.Lock()
		w.syncing = false
		if err != nil {
			w.err = fmt.Errorf("sync journal: %w", err)
		} else {
			w.synced = upTo
		}
		w.changed.Broadcast()
	}
}

// Close closes the file. The caller has ended all appends.
func (w *Writer) Close() error {
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
