package queue

import (
	"errors"
	"testing"
	"time"
)

// A content that takes too long is refused before anything more of it is
// stored.
func TestUploadTakesTooLong(t *testing.T) {
	w := &ContentWriter{buf: make([]byte, 1)}
	if err := w.inTime(); err != nil || w.begun.IsZero() {
		t.Errorf("the first chunk: %v", err)
	}
	if err := w.inTime(); err != nil {
		t.Errorf("the second chunk: %v", err)
	}
	w.begun = time.Now().Add(-MaxUpload - time.Second)
	if err := w.flush(); !errors.Is(err, errUpload) || w.pending != nil {
		t.Errorf("got %v", err)
	}
}
