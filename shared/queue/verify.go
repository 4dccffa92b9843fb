package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNotDurable reports a NATS server that acknowledges before it has synced.
// The relay does not start on it: 250 would not mean durable.
var ErrNotDurable = errors.New("the NATS server does not sync every write: set \"sync_interval: always\" in its jetstream block")

// ErrSyncUnknown reports that nobody could say whether the server syncs.
var ErrSyncUnknown = errors.New("cannot verify that the NATS server has \"sync_interval: always\" in its jetstream block, and a publish costs no more than one without a sync: " +
	"set it; then set bus.system_credentials to a user of the system account, or let the monitoring port answer on the server's host (http_port: 8222)")

// ErrSystemAccess reports system credentials that open nothing.
var ErrSystemAccess = errors.New("bus.system_credentials do not open the system account of the NATS server")

// ErrTooOld reports a NATS server without what the relay rests on: schedules,
// and syncs that are kept through compaction.
var ErrTooOld = errors.New("the NATS server is too old: 2.15.2 or later is needed")

// oldest is the version of the oldest server that will do.
var oldest = [3]int{2, 15, 2}

// tooOld compares a version such as "2.15.2" or "2.16.0-preview.1". One that
// cannot be read is a build of somebody's own, and theirs to answer for.
func tooOld(version string) bool {
	version, _, _ = strings.Cut(version, "-")
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil || n > oldest[i] {
			return false
		}
		if n < oldest[i] {
			return true
		}
	}
	return false
}

// VerifyDurable refuses a server that is too old, then asks every server for
// its sync setting: over the system account when credentials for it are given,
// else over the connection the services use, else at the monitoring port of
// the server's host. Where nobody answers it is measured (probe.go).
func (b *Bus) VerifyDurable(ctx context.Context, systemCredentials string) error {
	if v := b.NC.ConnectedServerVersion(); tooOld(v) {
		return fmt.Errorf("%w, this is %s", ErrTooOld, v)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if systemCredentials != "" {
		auth, err := credentials(systemCredentials)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSystemAccess, err)
		}
		nc, err := nats.Connect(b.NC.ConnectedUrl(), append(auth, nats.Name("postrider verify"))...)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSystemAccess, err)
		}
		defer nc.Close()
		return askSystem(ctx, nc)
	}
	if err := askSystem(ctx, b.NC); !errors.Is(err, ErrSyncUnknown) {
		return err
	}
	if err := askMonitor(ctx, b.NC.ConnectedUrl()); !errors.Is(err, ErrSyncUnknown) {
		return err
	}
	return b.probe(ctx)
}

type jsConfig struct {
	Disabled bool `json:"disabled"`
	Config   struct {
		SyncAlways bool `json:"sync_always"`
	} `json:"config"`
}

// askSystem pings every server of the system; each answers for itself. The
// first answer is waited for, the others only briefly.
func askSystem(ctx context.Context, nc *nats.Conn) error {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask the servers: %w", err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", inbox, []byte(`{"config":true}`)); err != nil {
		return fmt.Errorf("ask the servers: %w", err)
	}
	answers := 0
	for wait := time.Second; ; wait = 300 * time.Millisecond {
		m, err := nextWithin(ctx, sub, wait)
		if err != nil || len(m.Data) == 0 { // nobody answers, or no permission
			break
		}
		var reply struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data  jsConfig        `json:"data"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil || reply.Error != nil || reply.Data.Disabled {
			continue
		}
		answers++
		if !reply.Data.Config.SyncAlways {
			return fmt.Errorf("server %s: %w", reply.Server.Name, ErrNotDurable)
		}
	}
	if answers == 0 {
		return ErrSyncUnknown
	}
	return nil
}

func nextWithin(ctx context.Context, sub *nats.Subscription, d time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// askMonitor reads the monitoring port of the server's host.
func askMonitor(ctx context.Context, server string) error {
	u, err := url.Parse(server)
	if err != nil {
		return ErrSyncUnknown
	}
	target := "http://" + net.JoinHostPort(u.Hostname(), "8222") + "/jsz?config=true"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return ErrSyncUnknown
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ErrSyncUnknown
	}
	defer resp.Body.Close()
	var reply jsConfig
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&reply); err != nil || reply.Disabled {
		return ErrSyncUnknown
	}
	if !reply.Config.SyncAlways {
		return ErrNotDurable
	}
	return nil
}
