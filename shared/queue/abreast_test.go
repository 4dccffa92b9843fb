package queue_test

import (
	"sync"
	"testing"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Intake and the purge measure side by side, and find the same.
func TestRoomForSeveral(t *testing.T) {
	bus, err := queue.Connect(queue.Connection{URL: configured(t, "enabled"), Credentials: "relay:secret", System: "watch:secret", Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if room, err := bus.Room(t.Context()); err != nil || room.Limit != 100<<20 {
				t.Errorf("%+v %v", room, err)
			}
		})
	}
	all.Wait()
}
