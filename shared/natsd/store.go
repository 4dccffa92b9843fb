package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrUnreadable reports a store of which the server read a part only.
var ErrUnreadable = errors.New("what is stored there cannot be read")

// stored are the names of the streams that have messages in a store.
func stored(dir string) ([]string, error) {
	store := os.DirFS(dir)
	blocks, err := fs.Glob(store, "jetstream/*/streams/*/msgs/*.blk")
	if err != nil {
		return nil, fmt.Errorf("look into the store: %w", err)
	}
	var names []string
	for _, block := range blocks {
		name := strings.Split(block, "/")[3]
		if strings.HasPrefix(name, ".") { // being deleted
			continue
		}
		info, err := fs.Stat(store, block)
		if err != nil {
			return nil, fmt.Errorf("look into the store: %w", err)
		}
		if info.Size() > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// readable reports that the server has every stream that was stored.
func readable(ns *server.Server, had []string) error {
	state, err := ns.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return fmt.Errorf("look into the bus: %w", err)
	}
	has := map[string]bool{}
	for _, account := range state.AccountDetails {
		for _, stream := range account.Streams {
			has[stream.Name] = true
		}
	}
	var lost []string
	for _, name := range had {
		if !has[name] {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%w: stream %s. Is bus.encryption_key_file the one it was written with?", ErrUnreadable, strings.Join(lost, ", "))
	}
	return nil
}
