package world

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// NATS is one nats-server of its own, or a cluster of three.
type NATS struct {
	URL string
	// Credentials and SystemCredentials are files.
	Credentials, SystemCredentials string
	Nodes                          []*Node
}

// Node is one nats-server.
type Node struct {
	*Process
	// Address is where it takes clients.
	Address string
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err
}

// StartNATS starts a nats-server with the given sync setting, which may be
// empty.
func StartNATS(t testing.TB, store, sync string) NATS { return startNATS(t, store, sync, 1) }

// StartCluster starts three nats-servers that form a cluster.
func StartCluster(t testing.TB, store, sync string) NATS { return startNATS(t, store, sync, 3) }

func startNATS(t testing.TB, store, sync string, nodes int) NATS {
	t.Helper()
	dir := t.TempDir()
	n := NATS{Credentials: filepath.Join(dir, "relay"), SystemCredentials: filepath.Join(dir, "watch")}
	write(t, n.Credentials, "relay:secret\n")
	write(t, n.SystemCredentials, "watch:secret\n")
	addresses := porttest.Addresses(t, 2*nodes)
	clients, routes := addresses[:nodes], addresses[nodes:]
	for i := range nodes {
		name := "nats-" + strconv.Itoa(i+1)
		file := filepath.Join(dir, name+".conf")
		conf := fmt.Sprintf(`
server_name: %s
listen: %q
max_payload: 8MB
jetstream { store_dir: %q, max_file_store: 4GB, %s }
accounts {
  RELAY { jetstream: enabled, users: [{user: relay, password: secret}] }
  SYS { users: [{user: watch, password: secret, permissions: {publish: ["$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.HEALTHZ"], subscribe: ["_INBOX.>"]}}] }
}
system_account: SYS
`, name, clients[i], filepath.Join(store, name), sync)
		if nodes > 1 {
			conf += fmt.Sprintf("cluster { name: test, listen: %q, routes: [\"nats://%s\"] }\n", routes[i], strings.Join(routes, `", "nats://`))
		}
		write(t, file, conf)
		n.Nodes = append(n.Nodes, &Node{StartProcess(t, name, nil, filepath.Join(Binaries(t), "nats-server"), "--config", file), clients[i]})
	}
	n.URL = "nats://" + strings.Join(clients, ",nats://")
	n.Ready(t)
	return n
}

// Ready waits until every server takes clients, and JetStream answers.
func (n *NATS) Ready(t testing.TB) {
	t.Helper()
	for _, node := range n.Nodes {
		WaitFor(t, node.Name, func(ctx context.Context) error { return dial(ctx, node.Address) })
	}
	WaitFor(t, "JetStream", func(ctx context.Context) error {
		bus, err := queue.Connect(queue.Connection{URL: n.URL, Credentials: n.Credentials, Name: "test", Log: queuetest.Log(t)})
		if err != nil {
			return err
		}
		defer bus.Close()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // without a leader nobody answers
		defer cancel()
		_, err = bus.JS.AccountInfo(ctx)
		return err
	})
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
