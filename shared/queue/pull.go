package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Timing of pull requests.
const (
	pullExpiry = 30 * time.Second
	// pullSilence is how long an inbox with open requests may be silent before
	// they are taken for lost.
	pullSilence = pullExpiry + 10*time.Second
	pullPause   = 500 * time.Millisecond
	// pullMisses is how many requests in a row find no consumer before it is
	// made again. An election takes no longer.
	pullMisses = 4
	// pullBytes bounds one request; more than the largest stream message.
	pullBytes = 16 << 20
)

// puller asks a consumer for exactly as many messages as there are free
// places to handle them. Nothing is fetched ahead: a message that waited in a
// buffer would run into its acknowledgement deadline, and be delivered twice.
// (The pull iterators of the client library fetch ahead, and drop messages
// when their channel is full.)
type puller struct {
	nc      *nats.Conn
	subject string
	inbox   string
	sub     *nats.Subscription
	arrived chan *nats.Msg
	status  chan nats.Status
	// asked is how many messages open requests may still bring.
	asked int
	heard time.Time
	// resume is when to ask again after the consumer could not be reached, and
	// missed how often that was since it last was.
	resume time.Time
	missed int
}

// request is the body of a pull request.
type request struct {
	Batch    int           `json:"batch"`
	Expires  time.Duration `json:"expires"`
	MaxBytes int           `json:"max_bytes"`
}

func newPuller(nc *nats.Conn, stream, durable string, places int) (*puller, error) {
	p := &puller{
		nc: nc, subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + durable, inbox: nc.NewInbox(),
		arrived: make(chan *nats.Msg, 2*places+256), heard: time.Now(),
	}
	sub, err := nc.ChanSubscribe(p.inbox, p.arrived)
	if err != nil {
		return nil, fmt.Errorf("subscribe for %s/%s: %w", stream, durable, err)
	}
	p.sub = sub
	p.status = nc.StatusChanged(nats.CONNECTED)
	return p, nil
}

func (p *puller) close() {
	p.sub.Unsubscribe()
	p.nc.RemoveStatusListener(p.status)
}

// ask makes a request for the free places that no open request covers. Few
// places wait for more of them, so that a busy worker does not pay one
// request a message.
func (p *puller) ask(free, places int) error {
	now := time.Now()
	if p.asked > 0 && now.Sub(p.heard) > pullSilence {
		p.asked = 0
	}
	missing := free - p.asked
	if missing <= 0 || now.Before(p.resume) || (p.asked > 0 && missing < (places+3)/4) {
		return nil
	}
	body, err := json.Marshal(request{missing, pullExpiry, pullBytes})
	if err != nil {
		return err
	}
	if err := p.nc.PublishRequest(p.subject, p.inbox, body); err != nil {
		p.resume = now.Add(pullPause)
		return err
	}
	p.asked += missing
	p.heard = now
	return nil
}

// take looks at what arrived: a message to handle, or nil for the news that a
// request is over.
func (p *puller) take(m *nats.Msg) *nats.Msg {
	p.heard = time.Now()
	status := m.Header.Get("Status")
	if status == "" || len(m.Data) > 0 {
		p.asked = max(0, p.asked-1)
		p.missed = 0
		return m
	}
	pending, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	switch {
	case status == "100": // a sign of life
	case err == nil:
		p.asked = max(0, p.asked-pending)
		p.missed = 0
	default: // no consumer, another leader: the open requests are lost
		p.asked = 0
		p.missed++
		p.resume = time.Now().Add(pullPause)
	}
	return nil
}

// gone reports that request after request finds no consumer.
func (p *puller) gone() bool { return p.missed >= pullMisses }

// found begins to count anew: the consumer is there.
func (p *puller) found() { p.missed, p.asked, p.resume = 0, 0, time.Time{} }

// lost forgets the open requests: the connection they were made on is gone.
func (p *puller) lost() { p.asked = 0 }

// handBack returns what arrived after the worker stopped.
func (p *puller) handBack(ctx context.Context) {
	p.sub.Unsubscribe()
	for {
		select {
		case m := <-p.arrived:
			if m != nil && m.Header.Get("Status") == "" {
				m.Nak()
			}
		case <-ctx.Done():
			return
		default:
			return
		}
	}
}
