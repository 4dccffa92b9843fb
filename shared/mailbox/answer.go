package mailbox

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/queue"
)

// Answer answers the questions on a subject until ctx ends, so many at a time. Of
// several processes in a group one is asked.
func Answer(ctx context.Context, bus *queue.Bus, subject, group string, abreast int, standing func(ctx context.Context, address string) authz.Standing) error {
	asked := make(chan *nats.Msg, 1024)
	sub, err := bus.NC.ChanQueueSubscribe(subject, group, asked)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	defer sub.Unsubscribe()
	var running errgroup.Group
	running.SetLimit(abreast)
	for {
		select {
		case <-ctx.Done():
			return running.Wait()
		case m := <-asked:
			running.Go(func() error {
				m.Respond([]byte(standing(ctx, string(m.Data))))
				return nil
			})
		}
	}
}
