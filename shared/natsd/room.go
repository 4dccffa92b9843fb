package natsd

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// Room is how much of its limit the store takes, in octets. What others took
// of the volume counts as used: there is room for no more than the volume
// has free.
func (s *Server) Room() (used, limit int64, err error) {
	ns := s.current.Load()
	if ns == nil {
		return 0, 0, errRestarting
	}
	state, err := ns.Jsz(&server.JSzOptions{})
	if err != nil {
		return 0, 0, fmt.Errorf("look into the bus: %w", err)
	}
	if state.Disabled {
		return 0, 0, errDisabled
	}
	free, err := volumeFree(s.store)
	if err != nil {
		return 0, 0, err
	}
	limit = state.Config.MaxStore
	return limit - max(0, min(limit-int64(state.Store), free)), limit, nil
}

// volumeFree is what the volume of a directory has free now, in octets.
func volumeFree(dir string) (int64, error) {
	var volume syscall.Statfs_t
	if err := syscall.Statfs(dir, &volume); err != nil {
		return 0, fmt.Errorf("measure data directory: %w", err)
	}
	return int64(volume.Bavail) * volume.Bsize, nil
}

// maxStore is the limit for a store that is told none: 80 % of what the volume
// could give it. Where others took the volume meanwhile, what the store holds
// and half of what is free: with a limit below what it holds nothing could be
// written, and nothing drained.
func maxStore(dir string) (int64, error) {
	free, err := volumeFree(dir)
	if err != nil {
		return 0, err
	}
	used := int64(0)
	err = fs.WalkDir(os.DirFS(dir), ".", func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil // what vanishes meanwhile does not count
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", filepath.Base(dir), err)
	}
	return max((free+used)/10*8, used+free/2), nil
}
