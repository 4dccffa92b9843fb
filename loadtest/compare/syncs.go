package compare

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
)

// aloneMessages are submitted one by one, each to a server at rest.
const aloneMessages = 5

// syncs counts for each contender what it brings to the disk.
func (r *runner) syncs(ctx context.Context, result *Result) {
	for _, name := range r.config.Servers {
		if name == Direct || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(r.config.Progress, "what %s brings to the disk, by strace\n", name)
		server, err := r.contender(name)
		if err != nil {
			continue // named in every run
		}
		synced, err := r.synced(ctx, server)
		if err != nil {
			synced = Synced{Failed: errors.Join(err, server.SetAside()).Error()}
		}
		synced.Name = name
		if ctx.Err() == nil {
			result.Syncs = append(result.Syncs, synced)
		}
	}
}

// interval is from the dot of a message to its 250.
type interval struct{ dot, reply time.Time }

// synced records one server while it gets messages one by one, and then many.
func (r *runner) synced(ctx context.Context, server *contender.Contender) (Synced, error) {
	var paths []string
	group := r.group()
	running, err := server.Start(ctx, group, func(n int) []string {
		paths = append(paths, filepath.Join(r.config.Dir, fmt.Sprintf("%s.strace.%d", server.Name, n)))
		return meter.StraceWrap(paths[n])
	})
	if err != nil {
		return Synced{}, err
	}
	defer running.Stop()
	pass := func(n, connections int, sent func(dot, reply time.Time)) (passed, error) {
		return r.pass(ctx, running.Address, server.Signatures, Cell{10 << 10, connections, Reuse, n}, sent)
	}
	if _, err := pass(20, 5, nil); err != nil {
		return Synced{}, fmt.Errorf("warm up: %w", err)
	}
	var (
		mu    sync.Mutex
		alone []interval
	)
	for range aloneMessages {
		rest(ctx, group)
		_, err := pass(1, 1, func(dot, reply time.Time) {
			mu.Lock()
			defer mu.Unlock()
			alone = append(alone, interval{dot, reply})
		})
		if err != nil {
			return Synced{}, err
		}
	}
	rest(ctx, group)
	many, err := pass(r.config.SyncMessages, min(20, r.config.SyncMessages), nil)
	if err != nil {
		return Synced{}, err
	}
	rest(ctx, group)
	end := time.Now()
	running.Stop()
	return countSynced(paths, alone, many.began, end, r.config.SyncMessages)
}

// countSynced adds up what was recorded of each process of a server.
func countSynced(paths []string, alone []interval, began, ended time.Time, messages int) (Synced, error) {
	s := Synced{Messages: messages, Alone: len(alone)}
	synced := make([]bool, len(alone))
	for _, path := range paths {
		all, err := meter.CountSyncs(path, time.Time{}, ended)
		if err != nil {
			return Synced{}, err
		}
		for i, a := range alone {
			synced[i] = synced[i] || all.Within(a.dot, a.reply)
		}
		many, err := meter.CountSyncs(path, began, ended)
		if err != nil {
			return Synced{}, err
		}
		s.Calls += float64(many.Calls) / float64(messages)
		s.Writes += float64(many.Writes) / float64(messages)
	}
	for _, yes := range synced {
		if yes {
			s.Before250++
		}
	}
	return s, nil
}
