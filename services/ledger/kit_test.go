package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
)

// start runs the service on dir until the test ends or stop is called.
func start(t testing.TB, bus *queue.Bus, dir string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done, group := make(chan error, 1), service.NewGroup(Service)
	env := service.Env{Config: &config.Config{Relay: config.Relay{Data: dir}, Retention: config.Defaults().Retention}, Bus: bus, Log: queuetest.Log(t), Metrics: prometheus.NewRegistry(), Instance: "test"}
	go func() { done <- group.Run(ctx, env) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ledger ended with %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-group.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("ledger ended with %v", err)
	}
	return stop
}

// script publishes what the services would.
type script struct {
	t   testing.TB
	bus *queue.Bus
}

func (s script) record(r event.Record) {
	s.t.Helper()
	r.Schema = event.Schema
	if err := s.publish(queue.LedgerSubject(r.Stage, r.Outcome), event.Encode(&r)); err != nil {
		s.t.Fatal(err)
	}
}

func (s script) publish(subject string, data []byte) error {
	_, err := s.bus.JS.Publish(s.t.Context(), subject, data)
	return err
}

// mail accepts a message as ingress does.
func (s script) mail(id string, rcpts ...string) event.ContentRef {
	s.t.Helper()
	w := s.bus.NewContent(s.t.Context(), mail.QueueID(id))
	fmt.Fprint(w, "Subject: x\r\n\r\ntext\r\n")
	ref, err := w.Commit(&event.Accepted{At: noon, Class: mail.ClassScan, Env: envelope(rcpts...)})
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

func envelope(rcpts ...string) mail.Envelope {
	var e mail.Envelope
	for _, r := range to(rcpts...) {
		e.Recipients = append(e.Recipients, mail.Recipient{Address: r.Address})
	}
	return e
}

func (s script) admitted(id string, rcpts ...string) {
	s.t.Helper()
	a := event.Admitted{Schema: event.Schema, QueueID: mail.QueueID(id), Owner: "chem", Env: envelope(rcpts...)}
	if err := s.publish(queue.AdmittedSubject(mail.LaneNormal, 0), event.Encode(&a)); err != nil {
		s.t.Fatal(err)
	}
}

// job stores a job, deferred by later unless that is zero.
func (s script) job(id string, later time.Duration, rcpts ...string) {
	s.t.Helper()
	destination := to(rcpts...)[0].Address.Domain
	j := event.Job{Schema: event.Schema, ID: id + "-0", QueueID: mail.QueueID(id), Destination: destination, Owner: "chem", Attempt: 3, LastReply: "451 busy", Env: envelope(rcpts...)}
	ready := queue.ReadySubject(mail.LaneNormal, queue.PartitionOf(destination))
	var err error
	if later == 0 {
		err = s.publish(ready, event.Encode(&j))
	} else {
		_, err = s.bus.PublishLater(s.t.Context(), queue.LaterSubject(destination, j.ID), ready, j.ID, event.Encode(&j), time.Now().Add(later))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s script) failure(id string, rcpts ...string) {
	s.t.Helper()
	f := event.Failure{Schema: event.Schema, Kind: event.KindFailed, QueueID: mail.QueueID(id), Owner: "chem", Recipients: to(rcpts...)}
	if err := s.publish(queue.ReportSubject(f.Kind), event.Encode(&f)); err != nil {
		s.t.Fatal(err)
	}
}

func export(t testing.TB, bus *queue.Bus, f books.Filter) []books.Row {
	t.Helper()
	var out []books.Row
	if err := books.Client(bus).Export(t.Context(), f, func(r books.Row) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	var b strings.Builder
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}
