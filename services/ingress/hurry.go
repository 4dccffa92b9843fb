package ingress

import (
	"sync"
	"time"
)

// hurryStep is what a hurry counts by, and the most that it counts of a time in
// which the process stood still.
const hurryStep = time.Second

// hurry calls somebody when the process has run for a while: whoever stood still
// has not read yet what came meanwhile, and is not to act on the time alone.
type hurry struct {
	mu    sync.Mutex
	timer *time.Timer
	steps int
	over  func()
}

// newHurry calls over after d, whole steps of it, unless it is stopped before.
func newHurry(d time.Duration, over func()) *hurry {
	h := &hurry{steps: int(d / hurryStep), over: over}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(hurryStep, h.step)
	return h
}

func (h *hurry) step() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.steps--; h.steps > 0 {
		h.timer.Reset(hurryStep)
		return
	}
	h.over()
}

func (h *hurry) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer.Stop()
	h.steps, h.over = 0, func() {}
}
