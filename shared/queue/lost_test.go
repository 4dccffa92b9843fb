package queue_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// forgetful runs a server with an empty store.
func forgetful(t *testing.T, port int) (ns *server.Server, at int) {
	t.Helper()
	ns = running(t, &server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	return ns, ns.Addr().(*net.TCPAddr).Port
}

// A server that lost what it had gives its sequences to other messages. The
// word about a message of before must not settle one of them.
func TestWordAboutALostMessage(t *testing.T) {
	t.Parallel()
	ns, port := forgetful(t, server.RANDOM_PORT)
	bus, err := queue.Connect(queue.Connection{URL: ns.ClientURL(), Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	store := func(text string) {
		t.Helper()
		timetest.Await(t, text+" is stored", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := bus.JS.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy})
			if err == nil {
				_, err = bus.JS.Publish(ctx, "s", []byte(text))
			}
			return err == nil
		})
	}
	began, goOn := make(chan string, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	store("first")
	done := make(chan error, 1)
	go func() {
		done <- bus.Work(ctx, queue.Source{Stream: "S", Durable: "w", Concurrency: 4}, time.Second, func(ctx context.Context, m queue.Message) error {
			began <- string(m.Data)
			switch string(m.Data) {
			case "first":
				<-goOn
			case "second":
				<-ctx.Done()
				return errors.New("not done")
			}
			return nil
		})
	}()
	defer func() {
		cancel()
		<-done
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-began; got != want {
			t.Fatalf("began with %s, not %s", got, want)
		}
	}
	expect("first")
	ns.Shutdown()
	ns.WaitForShutdown()
	forgetful(t, port)
	store("second")
	expect("second")
	close(goOn)
	store("third")
	expect("third")
	stream, err := bus.JS.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the third is done", func() bool {
		_, err := stream.GetMsg(t.Context(), 2)
		return errors.Is(err, jetstream.ErrMsgNotFound)
	})
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "second" {
		t.Errorf("the second: %+v %v", m, err)
	}
}
