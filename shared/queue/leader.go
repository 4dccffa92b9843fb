package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// leaderTimeout bounds one question to the leader of a stream.
const leaderTimeout = 5 * time.Second

// storedMessage is a message as the leader of its stream has it.
type storedMessage struct {
	Seq  uint64 `json:"seq"`
	Data []byte `json:"data"`
}

// atLeader asks the leader of a stream for one message; nil when there is none. A
// direct get is faster, and may be answered by who is behind and does not know yet
// what was acknowledged.
func (b *Bus) atLeader(ctx context.Context, stream string, question map[string]any) (*storedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	m, err := b.NC.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, fmt.Errorf("ask the leader of %s: %w", stream, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMessage      `json:"message"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return nil, fmt.Errorf("ask the leader of %s: %w", stream, err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil:
		return nil, fmt.Errorf("ask the leader of %s: %w", stream, answer.Error)
	}
	return answer.Message, nil
}
