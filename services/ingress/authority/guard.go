package authority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"

	"github.com/postrider/postrider/shared/authz"
)

const (
	// patience is how long a client waits for an answer; a device's own patience
	// for a reply is some 30 s.
	patience = 5 * time.Second
	// maxHashing bounds the hashes made at once, of 19 MiB each.
	maxHashing = 4
	// maxQuestions bounds what is asked of one authority outside at once.
	maxQuestions = 64
	// givenUp is how often in a row an authority did not answer before it is
	// spared, and spared for how long.
	givenUp = 5
	spared  = 10 * time.Second
)

// errBusy: the question was not asked, which says nothing about the authority.
var errBusy = errors.New("too many questions at once")

// guard keeps an authority that is slow, down or broken from holding sessions.
type guard struct {
	name    authz.Authority
	inner   Authority
	slots   chan struct{}
	breaker *gobreaker.CircuitBreaker[string]
}

// guarded lets at most so many questions through at once.
func guarded(name authz.Authority, inner Authority, most int, log zerolog.Logger) *guard {
	return &guard{
		name: name, inner: inner, slots: make(chan struct{}, most),
		breaker: gobreaker.NewCircuitBreaker[string](gobreaker.Settings{
			MaxRequests:  1,
			Timeout:      spared,
			ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= givenUp },
			IsSuccessful: func(err error) bool { return !isDown(err) },
			IsExcluded:   func(err error) bool { return errors.Is(err, errBusy) },
			OnStateChange: func(_ string, from, to gobreaker.State) {
				log.Warn().Str("authority", string(name)).Stringer("was", from).Stringer("is", to).Msg("circuit breaker of an authority")
			},
		}),
	}
}

// Check asks the authority, unless it is known not to answer.
func (g *guard) Check(ctx context.Context, user, password string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name, err := g.breaker.Execute(func() (string, error) { return g.ask(ctx, user, password) })
	var known *Error
	if err == nil || errors.As(err, &known) {
		return name, err
	}
	reason := err.Error()
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		reason = fmt.Sprintf("not asked: there was no answer %d times in a row", givenUp)
	}
	return "", &Error{Kind: Unavailable, Authority: g.name, Reason: reason}
}

// ask waits for its turn. What an authority sends is read by libraries that are
// not ours: should one panic, that is an answer that cannot be read.
func (g *guard) ask(ctx context.Context, user, password string) (name string, err error) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return "", errBusy
	}
	defer func() {
		if p := recover(); p != nil {
			name, err = "", fmt.Errorf("panic: %v", p)
		}
	}()
	return g.inner.Check(ctx, user, password)
}
