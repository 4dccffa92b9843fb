package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/queue"
)

// healthSubject is where every process of a relay answers how it fares.
const healthSubject = "postrider.health"

// Health is what one process says of itself.
type Health struct {
	Instance string      `json:"instance"`
	Services []Condition `json:"services"`
	// Store is what this process last found of the store; nil when it does not
	// look.
	Store *queue.Room `json:"store,omitempty"`
	// Problems are those of the process, not of one service.
	Problems []string `json:"problems,omitempty"`
}

// Condition is how one service fares.
type Condition struct {
	Service string `json:"service"`
	// Ready says that it does its work, or did until a Problem came.
	Ready bool `json:"ready"`
	// Failures counts how often it failed and was started again.
	Failures int      `json:"failures"`
	Problems []string `json:"problems,omitempty"`
}

// String is the name of the service, and what is wrong with it.
func (c Condition) String() string {
	if len(c.Problems) == 0 {
		return c.Service
	}
	return c.Service + ": " + strings.Join(c.Problems, "; ")
}

func (g *Group) conditions() []Condition {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Condition
	for _, m := range g.members {
		c := Condition{Service: m.Name, Ready: m.ready, Failures: m.failures}
		if !m.ready && m.failures > 0 {
			text := fmt.Sprintf("failed (%v), %d times by now", m.failure, m.failures)
			if wait := time.Until(m.again); wait > 0 {
				text += fmt.Sprintf("; it is started again in %s", wait.Round(time.Second))
			}
			c.Problems = append(c.Problems, text)
		}
		for _, why := range m.hindrances {
			c.Problems = append(c.Problems, why.Error())
		}
		slices.Sort(c.Problems)
		out = append(out, c)
	}
	return out
}

// answer lets the process answer how it fares, until the returned function is
// called.
func (g *Group) answer(env *Env) (stop func()) {
	if env.Bus == nil {
		return func() {}
	}
	stop, err := env.Bus.Answer(healthSubject, func() []byte {
		h := Health{Instance: env.Instance, Services: g.conditions(), Problems: g.troubles()}
		if room := env.Bus.LastRoom(); room.Limit > 0 {
			h.Store = &room
		}
		data, err := json.Marshal(h)
		if err != nil {
			env.Log.Error().Err(err).Msg("cannot say how this process fares")
		}
		return data
	})
	if err != nil {
		env.Log.Warn().Err(err).Msg("cannot answer how this process fares")
		return func() {}
	}
	return stop
}

// AskHealth asks every process of the relay how it fares. Those that do not
// answer are not there.
func AskHealth(ctx context.Context, bus *queue.Bus) ([]Health, error) {
	out := []Health{}
	var unreadable error
	err := bus.Gather(ctx, healthSubject, func(data []byte) {
		var h Health
		if err := json.Unmarshal(data, &h); err != nil {
			unreadable = fmt.Errorf("read health: %w", err)
			return
		}
		out = append(out, h)
	})
	if err == nil {
		err = unreadable
	}
	slices.SortFunc(out, func(a, b Health) int { return strings.Compare(a.Instance, b.Instance) })
	return out, err
}
