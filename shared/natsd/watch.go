package natsd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Timing of the watch.
const (
	watchPeriod = time.Second
	// Pauses between two starts of a server that keeps failing.
	restartFirst = time.Second
	restartLast  = 30 * time.Second
	// restartCalm is how long a server must serve for its failures to be forgotten.
	restartCalm = time.Minute
)

// spaceToServe is what the volume must have free before the server is started
// again, in octets: 5 % of the store, but no less than the first and no more
// than the second. With less it would stop at the next write.
const (
	spaceLeast = 4 << 20
	spaceMost  = 256 << 20
)

func spaceToServe(limit int64) int64 { return min(max(limit/20, spaceLeast), spaceMost) }

// Check is nil while the server serves, and says why not.
func (s *Server) Check() error {
	if why := s.trouble.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// keepServing watches the server until Stop.
func (s *Server) keepServing() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watch(ctx)
	}()
	s.stop = func() {
		cancel()
		<-done
	}
}

// watch starts the server again whenever a stream of it has stopped.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	pause, served := restartFirst, time.Now()
	for {
		var why string
		select {
		case <-ctx.Done():
			return
		case why = <-s.failed:
		case <-tick.C:
			why = stopped(s.current.Load())
		}
		if why == "" {
			continue
		}
		if time.Since(served) > restartCalm {
			pause = restartFirst
		}
		if !s.heal(ctx, why, pause) {
			return
		}
		pause, served = min(2*pause, restartLast), time.Now()
	}
}

// heal starts the server again when the volume has space, and until it serves;
// it is false when ctx ended before that. Until then the old server goes on:
// its other streams may still work.
func (s *Server) heal(ctx context.Context, why string, pause time.Duration) bool {
	s.log.Error().Str("why", why).Msg("the bus stopped after a failed write; it is started again when the volume has space")
	for began := time.Now(); ; pause = min(2*pause, restartLast) {
		if !s.awaitSpace(ctx, why, pause) {
			return false
		}
		s.shutdown()
		drain(s.failed)
		err := s.serve(ctx)
		if err == nil {
			s.trouble.Store(nil)
			s.log.Warn().Dur("after", time.Since(began)).Msg("the bus serves again")
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.log.Error().Err(err).Dur("again_in", pause).Msg("the bus does not start")
		why = err.Error()
	}
}

// awaitSpace waits for pause, and then until the volume has space.
func (s *Server) awaitSpace(ctx context.Context, why string, pause time.Duration) bool {
	need := spaceToServe(s.options.JetStreamMaxStore)
	for {
		free, err := volumeFree(s.store)
		text := fmt.Sprintf("the bus stopped (%s) and is started again", why)
		if err == nil && free < need {
			text += fmt.Sprintf(" when %s has %d MB free: it has %d", s.store, (need+1<<20-1)>>20, free>>20)
		}
		s.trouble.Store(&text)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		if free, err = volumeFree(s.store); err == nil && free >= need {
			return true
		}
		pause = watchPeriod
	}
}

// stopped says why a server no longer stores; empty when it does.
func stopped(ns *server.Server) string {
	if !ns.JetStreamEnabled() {
		return errDisabled.Error()
	}
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, writeError) {
			return e.Error
		}
	}
	return ""
}

// writeError is what the server calls a failed write, in its health and, with
// another word before it, in its log. The health has not all of them: an
// acknowledgement that cannot be stored is in the log only.
const (
	writeError       = "write error"
	loggedWriteError = "ritical write error"
)

func drain(c <-chan string) {
	select {
	case <-c:
	default:
	}
}
