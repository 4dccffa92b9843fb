package compare

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/loadtest/compare/meter"
	"github.com/postrider/postrider/loadtest/compare/traffic"
)

// passed is one load that was made and has arrived.
type passed struct {
	tally                  *traffic.Tally
	began, accepted, ended time.Time
}

// slowest is the time a message may take before the run counts as failed, on
// top of a minute.
const slowest = 100 * time.Millisecond

// pass makes a load and waits until all of it has arrived as it should.
func (r *runner) pass(ctx context.Context, address string, signatures []string, cell Cell, sent func(dot, reply time.Time)) (passed, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(cell.Messages)*slowest)
	defer cancel()
	message := traffic.NewMessage(cell.Size)
	r.number++
	p := passed{tally: r.sink.Expect(r.number, cell.Messages, len(signatures), message), began: time.Now()}
	err := traffic.Submit(ctx, traffic.Load{
		Server: address, Run: r.number, Messages: cell.Messages, Connections: cell.Connections,
		PerConnection: cell.Mode.perConnection(), Sent: sent,
	}, message)
	if err != nil {
		return p, fmt.Errorf("submit: %w", err)
	}
	p.accepted = time.Now()
	select {
	case <-p.tally.All():
	case <-ctx.Done():
		return p, fmt.Errorf("wait: %w: %w", ctx.Err(), p.tally.Check())
	}
	_, p.ended = p.tally.Arrived()
	if err := p.tally.Check(); err != nil {
		return p, err
	}
	if got := p.tally.Signatures(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(signatures))) {
		return p, fmt.Errorf("signed %s, expected %s", strings.Join(got, ", "), strings.Join(signatures, ", "))
	}
	return p, nil
}

// measure makes a pass and takes its figures. Without a group there is no
// server.
func (r *runner) measure(ctx context.Context, address string, group *meter.Group, signatures []string, cell Cell) (Run, *traffic.Tally, error) {
	var (
		before, after time.Duration
		err           error
	)
	if group != nil {
		if before, err = group.CPU(); err != nil {
			return Run{}, nil, err
		}
	}
	stop := watchMemory(group)
	harness := ownCPU()
	p, err := r.pass(ctx, address, signatures, cell, nil)
	harness = ownCPU() - harness
	octets, processes := stop()
	if err != nil {
		return Run{}, nil, err
	}
	if group != nil {
		rest(ctx, group)
		if after, err = group.CPU(); err != nil {
			return Run{}, nil, err
		}
	}
	n := float64(cell.Messages)
	perMessage := func(d time.Duration) float64 { return d.Seconds() * 1000 / n }
	return Run{
		Accept:    n / p.accepted.Sub(p.began).Seconds(),
		EndToEnd:  n / p.ended.Sub(p.began).Seconds(),
		CPU:       perMessage(after - before),
		Harness:   perMessage(harness),
		Memory:    float64(octets) / 1e6,
		Processes: processes,
	}, p.tally, nil
}

const (
	restWindow = 500 * time.Millisecond
	restUsage  = 15 * time.Millisecond // within the window: 3 % of one processor
	restBound  = 15 * time.Second
)

// rest waits until the server has hardly anything to do, or the bound is
// reached.
func rest(ctx context.Context, group *meter.Group) {
	ctx, cancel := context.WithTimeout(ctx, restBound)
	defer cancel()
	last, _ := group.CPU()
	for {
		select {
		case <-time.After(restWindow):
		case <-ctx.Done():
			return
		}
		now, err := group.CPU()
		if err != nil || now-last <= restUsage {
			return
		}
		last = now
	}
}

// watchMemory looks at the memory of the group until the function it returns
// is called, which returns the peak, and how many processes there were at most.
func watchMemory(group *meter.Group) (stop func() (octets int64, processes int)) {
	if group == nil {
		return func() (int64, int) { return 0, 0 }
	}
	var (
		octets    int64
		processes int
	)
	look := func() {
		o, n := group.Memory()
		octets, processes = max(octets, o), max(processes, n)
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			look()
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	}()
	return func() (int64, int) {
		close(done)
		<-stopped
		look()
		return octets, processes
	}
}

// ownCPU is the processor time that this process has used: source and sink.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
