package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Room is how much of its limit the store takes, in octets. Limit is 0 when
// nobody could say: then only the store's own refusals tell (ErrFull).
type Room struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// Ratio is the part of the limit that is used; 0 when that is not known.
func (r Room) Ratio() float64 {
	if r.Limit <= 0 {
		return 0
	}
	return float64(r.Used) / float64(r.Limit)
}

// IntakeShare is the part of the store that accepted mail may take: the rest
// is for what becomes of it, so that the ledger, schedules and reports always
// fit. IntakeAgain is where intake begins again after it was stopped.
const (
	IntakeShare = 0.85
	IntakeAgain = 0.83
)

// Takes reports that a message of that size fits into what intake may take.
func (r Room) Takes(size int64) bool {
	return r.Limit <= 0 || float64(r.Used+size) < IntakeShare*float64(r.Limit)
}

// tighter is the room of which a greater part is used.
func tighter(a, b Room) Room {
	if b.Limit > 0 && (a.Limit <= 0 || b.Ratio() > a.Ratio()) {
		return b
	}
	return a
}

// roomTimeout bounds one measurement.
const roomTimeout = 2 * time.Second

// Room measures the store. A server in this process tells by itself, its
// volume included. Elsewhere it is the account's limit and that of the servers,
// whichever is nearer; the servers are asked over the system account, or at
// the monitoring port of the server's host. Any number may call it, each about
// once a second; they ask the servers one after the other.
func (b *Bus) Room(ctx context.Context) (Room, error) {
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	room, err := b.measure(ctx)
	if err != nil {
		return Room{}, fmt.Errorf("measure the store: %w", err)
	}
	b.room.Store(&room)
	return room, nil
}

// LastRoom is what Room found last, without asking anybody.
func (b *Bus) LastRoom() Room {
	if r := b.room.Load(); r != nil {
		return *r
	}
	return Room{}
}

// embedded is a server in this process that tells its room (natsd.Server).
type embedded interface {
	Room() (used, limit int64, err error)
}

func (b *Bus) measure(ctx context.Context) (Room, error) {
	if b.embedded != nil {
		used, limit, err := b.embedded.Room()
		return Room{used, limit}, err
	}
	info, err := b.JS.AccountInfo(ctx)
	if err != nil {
		return Room{}, err
	}
	room := Room{int64(info.Store), info.Limits.MaxStore}
	for _, tier := range info.Tiers {
		room = tighter(room, Room{int64(tier.Store), tier.Limits.MaxStore})
	}
	b.servers.ask(ctx, b.NC, storeQuestion, func(data []byte) bool {
		var jsz struct {
			Used   int64 `json:"storage"`
			Config struct {
				Limit int64 `json:"max_storage"`
			} `json:"config"`
		}
		if json.Unmarshal(data, &jsz) != nil || jsz.Config.Limit <= 0 {
			return false
		}
		room = tighter(room, Room{jsz.Used, jsz.Config.Limit})
		return true
	})
	return Room{room.Used, max(0, room.Limit)}, nil // without a limit the account says -1
}

// question is one that a server answers about itself, on the system account
// and at its monitoring port.
type question struct{ name, body, path string }

var (
	storeQuestion  = question{"JSZ", `{"config":true}`, "/jsz?config=true"}
	healthQuestion = question{"HEALTHZ", `{"details":true}`, "/healthz?details=true"}
)

// servers is who can be asked about the servers themselves.
type servers struct {
	// credentials are those of the system account, empty for none.
	credentials string
	closed      atomic.Bool

	mu     sync.Mutex
	system *nats.Conn
	deaf   map[string]time.Time // until when a way is not tried again, having failed
}

// deafFor is how long a way that gave no answer is left alone.
const deafFor = time.Minute

// ask asks every server a question of its monitoring, and hands what they say
// to each, which is false for what is no answer. It reports whether anybody
// answered.
func (s *servers) ask(ctx context.Context, nc *nats.Conn, q question, each func([]byte) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, way := range []struct {
		name string
		ask  func() bool
	}{
		{"system", func() bool {
			system, err := s.connect(nc)
			return err == nil && askServers(ctx, system, q, each)
		}},
		{"own", func() bool { return askServers(ctx, nc, q, each) }},
		{"monitor", func() bool { return askPort(ctx, nc.ConnectedUrl(), q, each) }},
	} {
		key := q.name + " " + way.name
		if ctx.Err() != nil { // the time went by while others asked
			return false
		}
		if time.Now().Before(s.deaf[key]) {
			continue
		}
		if way.ask() {
			return true
		}
		if s.deaf == nil {
			s.deaf = map[string]time.Time{}
		}
		s.deaf[key] = time.Now().Add(deafFor)
	}
	return false
}

// connect is the connection to the system account, made when it is needed.
func (s *servers) connect(nc *nats.Conn) (*nats.Conn, error) {
	if s.credentials == "" || s.closed.Load() {
		return nil, ErrSystemAccess
	}
	if s.system != nil {
		return s.system, nil
	}
	auth, err := credentials(s.credentials)
	if err != nil {
		return nil, err
	}
	s.system, err = nats.Connect(nc.ConnectedUrl(), append(auth, nats.Name("postrider watch"), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...) // a question that is not permitted has no answer
	return s.system, err
}

func (s *servers) close() {
	s.closed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.system != nil {
		s.system.Close()
	}
}

// askServers pings the servers over a connection to the system account.
func askServers(ctx context.Context, nc *nats.Conn, q question, each func([]byte) bool) (answered bool) {
	err := gather(ctx, nc, "$SYS.REQ.SERVER.PING."+q.name, []byte(q.body), func(data []byte) {
		var reply struct {
			Data json.RawMessage `json:"data"`
		}
		if json.Unmarshal(data, &reply) == nil && each(reply.Data) {
			answered = true
		}
	})
	return answered && err == nil
}

// askPort reads the monitoring port of the server's host.
func askPort(ctx context.Context, server string, q question, each func([]byte) bool) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(u.Hostname(), monitorPort)+q.path, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return err == nil && each(data)
}

// monitorPort is where a server answers about itself, if it is told to.
const monitorPort = "8222"

// FailedStreams are the streams that a server says have stopped after a failed
// write, and what failed; empty also when nobody could be asked. A server in
// this process mends that by itself, another one must be started again.
func (b *Bus) FailedStreams(ctx context.Context) map[string]string {
	failed := map[string]string{}
	b.servers.ask(ctx, b.NC, healthQuestion, func(data []byte) bool {
		var health struct {
			Status string `json:"status"`
			Errors []struct {
				Stream string `json:"stream"`
				Error  string `json:"error"`
			} `json:"errors"`
		}
		if json.Unmarshal(data, &health) != nil || health.Status == "" {
			return false
		}
		for _, e := range health.Errors {
			if _, why, ok := strings.Cut(e.Error, "write error: "); ok {
				failed[e.Stream] = why
			}
		}
		return true
	})
	return failed
}
