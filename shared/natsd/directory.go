package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/postrider/postrider/shared/durable"
)

// Access is how the commands reach the bus: the content of bus.json.
type Access struct {
	URL         string `json:"url"`
	Credentials string `json:"credentials"` // user:password
	PID         int    `json:"pid"`
}

// ErrPurpose reports a data directory that belongs to the other kind of relay.
var ErrPurpose = errors.New("data directory has another purpose")

// ErrInUse reports a data directory that a running relay has open.
var ErrInUse = errors.New("data directory is in use by another postrider")

// accessFile is the name of bus.json below the data directory.
const accessFile = "bus.json"

// stampFile is the name of the mark below the data directory.
const stampFile = "PURPOSE"

// stamp marks dir with its purpose, or checks the mark it has.
func stamp(dir, purpose string) error {
	err := checkStamp(dir, purpose)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.File(filepath.Join(dir, stampFile), []byte(purpose+"\n")); err != nil {
		return fmt.Errorf("stamp data directory: %w", err)
	}
	return nil
}

// checkStamp compares the mark of dir; os.ErrNotExist says that it has none.
func checkStamp(dir, purpose string) error {
	have, err := os.ReadFile(filepath.Join(dir, stampFile))
	if err != nil {
		return fmt.Errorf("read stamp of the data directory: %w", err)
	}
	if got := strings.TrimSpace(string(have)); got != purpose {
		return fmt.Errorf("%w: %s was made for %s and is not opened for %s", ErrPurpose, dir, got, purpose)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	return f, nil
}

// writeAccess writes bus.json.
func writeAccess(file string, a Access) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err == nil {
		err = durable.File(file, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", accessFile, err)
	}
	return nil
}

// ReadAccess is how to reach the embedded bus of the relay that has dir open.
func ReadAccess(dir string) (Access, error) {
	var a Access
	b, err := os.ReadFile(filepath.Join(dir, accessFile))
	if err != nil {
		return a, fmt.Errorf("find the relay's bus: %w", err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("read %s: %w", accessFile, err)
	}
	return a, nil
}
