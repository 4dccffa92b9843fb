package queue

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// Bus is a connection to the NATS server.
type Bus struct {
	NC  *nats.Conn
	JS  jetstream.JetStream
	Log zerolog.Logger

	// Intake is the clients of this process that wait for a reply.
	Intake Intake
	// Recent keeps what this process stored for who reads it in the same; nil
	// where nobody does.
	Recent *Recent

	handles sync.Map     // stream name → jetstream.Stream
	ahead   atomic.Int64 // chunks read ahead of their readers
	// Of Room: the server in this process, who else can be asked, and what was found.
	embedded embedded
	servers  servers
	room     atomic.Pointer[Room]
	records  recorder
}

// Connection says how to reach a NATS server.
type Connection struct {
	URL string
	// Credentials is a .creds or nkey seed file, or "user:password".
	Credentials string
	// System opens the system account, in the same forms; empty when there is
	// nothing to ask about the servers.
	System string
	// Name is shown in the server's connection list.
	Name string
	// InProcess connects to an embedded server without a socket.
	InProcess nats.InProcessConnProvider
	Log       zerolog.Logger
}

// Connect connects, and keeps reconnecting for ever once it was connected.
// While disconnected a publish fails at once instead of being buffered: what
// is not stored must not look as if it were.
func Connect(c Connection) (*Bus, error) {
	log := c.Log
	opts := []nats.Option{
		nats.Name(c.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.CustomInboxPrefix("_INBOX_" + strings.NewReplacer(" ", "-", ".", "-").Replace(c.Name)),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("bus disconnected")
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info().Msg("bus reconnected") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) {
				log.Warn().Err(err).Msg("bus error")
			}
		}),
	}
	auth, err := credentials(c.Credentials)
	if err != nil {
		return nil, err
	}
	opts = append(opts, auth...)
	if c.InProcess != nil {
		opts = append(opts, nats.InProcessServer(c.InProcess))
	}
	nc, err := nats.Connect(c.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w", redact(c.URL), err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b := &Bus{NC: nc, JS: js, Log: log, servers: servers{credentials: c.System}}
	b.embedded, _ = c.InProcess.(embedded)
	return b, nil
}

// Close ends the connection after what was published is out.
func (b *Bus) Close() {
	b.NC.Close()
	b.servers.close()
}

// credentials reads the three forms of credentials.
func credentials(s string) ([]nats.Option, error) {
	if s == "" {
		return nil, nil
	}
	content, err := os.ReadFile(s)
	switch {
	case err == nil && strings.Contains(string(content), "NATS USER JWT"):
		return []nats.Option{nats.UserCredentials(s)}, nil
	case err == nil && strings.HasPrefix(strings.TrimSpace(string(content)), "SU"):
		opt, err := nats.NkeyOptionFromSeed(s)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed: %w", err)
		}
		return []nats.Option{opt}, nil
	case err == nil:
		s = strings.TrimSpace(string(content))
	case !errors.Is(err, os.ErrNotExist) || !strings.Contains(s, ":"):
		return nil, fmt.Errorf("read bus credentials: %w", err)
	}
	user, password, ok := strings.Cut(s, ":")
	if !ok {
		return nil, errors.New("bus credentials are neither a .creds file, nor an nkey seed, nor user:password")
	}
	return []nats.Option{nats.UserInfo(user, password)}, nil
}

// redact removes a password from a URL for messages.
func redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		scheme, rest = "nats", url
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}
