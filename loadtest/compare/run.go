package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/postrider/postrider/loadtest/compare/contender"
	"github.com/postrider/postrider/loadtest/compare/meter"
	"github.com/postrider/postrider/loadtest/compare/traffic"
)

// runner has what all runs share.
type runner struct {
	config  Config
	sink    *traffic.Sink
	number  uint32 // of the last run, for its tokens
	tallies []counted
}

// counted is a run whose tally is to be checked once more at the end.
type counted struct {
	run   *Run
	tally *traffic.Tally
}

// Compare makes all runs. When ctx ends it stops what runs, and returns what
// was measured, marked as partial. The error is one of the harness; servers
// that fail are in the result.
func Compare(ctx context.Context, config Config) (Result, error) {
	if err := config.Validate(); err != nil {
		return Result{}, err
	}
	sink, err := traffic.NewSink()
	if err != nil {
		return Result{}, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- sink.Run(serving) }()
	defer func() { stop(); <-stopped }()

	r := &runner{config: config, sink: sink}
	result := newResult(config)
	result.Counted = counting(r.group())
	r.all(ctx, &result)
	if ctx.Err() == nil && config.SyncMessages > 0 {
		r.syncs(ctx, &result)
	}
	result.Partial = ctx.Err() != nil
	for _, c := range r.tallies {
		if err := c.tally.Check(); err != nil && c.run.Failed == "" {
			*c.run = Run{Round: c.run.Round, Failed: "afterwards: " + err.Error()}
		}
	}
	if err := sink.Check(); err != nil {
		result.Strays = err.Error()
	}
	result.summarize()
	return result, nil
}

// all makes the runs in their order.
func (r *runner) all(ctx context.Context, result *Result) {
	steps := schedule(r.config.Servers, len(result.Cells), r.config.Rounds)
	took := durations{}
	for i, step := range steps {
		cell := &result.Cells[step.cell]
		began := time.Now()
		run, tally := r.run(ctx, step.server, cell.Cell)
		if ctx.Err() != nil {
			return
		}
		took.add(step, time.Since(began))
		run.Round = step.round + 1
		for j := range cell.Servers {
			if cell.Servers[j].Name != step.server {
				continue
			}
			// All rounds in one array, so that tallies can point into it.
			if cell.Servers[j].Runs == nil {
				cell.Servers[j].Runs = make([]Run, 0, r.config.Rounds)
			}
			cell.Servers[j].Runs = append(cell.Servers[j].Runs, run)
			if tally != nil {
				r.tallies = append(r.tallies, counted{&cell.Servers[j].Runs[len(cell.Servers[j].Runs)-1], tally})
			}
		}
		fmt.Fprintf(r.config.Progress, "round %d of %d  %s  %-22s  %s  (%d of %d, %s left)\n",
			step.round+1, r.config.Rounds, cell.Cell, step.server, run.line(), i+1, len(steps), took.left(steps[i+1:]))
	}
}

// run makes one run. The directories of a server that failed are set aside:
// what it still has must not come in another run.
func (r *runner) run(ctx context.Context, name string, cell Cell) (Run, *traffic.Tally) {
	// What others left in memory is not to be written at this one's cost.
	syscall.Sync()
	runtime.GC()
	if name == Direct {
		cell.Messages *= directFactor
		run, tally, err := r.measure(ctx, r.sink.Address(), nil, nil, cell)
		if err != nil {
			return Run{Failed: err.Error()}, nil
		}
		return run, tally
	}
	server, err := r.contender(name)
	if err != nil {
		return Run{Failed: err.Error()}, nil
	}
	run, tally, err := r.serve(ctx, server, cell)
	if err != nil {
		return Run{Failed: errors.Join(err, server.SetAside()).Error()}, nil
	}
	return run, tally
}

// serve starts the server, makes the run, and stops it.
func (r *runner) serve(ctx context.Context, server *contender.Contender, cell Cell) (Run, *traffic.Tally, error) {
	group := r.group()
	var wrap func(int) []string
	if delay := r.config.SyncDelay; delay > 0 {
		wrap = func(int) []string { return meter.SlowWrap(delay) }
	}
	running, err := server.Start(ctx, group, wrap)
	if err != nil {
		return Run{}, nil, err
	}
	defer running.Stop()
	warm := cell
	warm.Messages = 100 + 2*cell.Connections
	if _, err := r.pass(ctx, running.Address, server.Signatures, warm, nil); err != nil {
		return Run{}, nil, fmt.Errorf("warm up: %w", err)
	}
	rest(ctx, group)
	return r.measure(ctx, running.Address, group, server.Signatures, cell)
}

func (r *runner) contender(name string) (*contender.Contender, error) {
	return contender.New(name, contender.Site{Dir: r.config.Dir, Sink: r.sink.Address(), Postrider: r.config.Postrider})
}

// counting says how groups count here, by one that is not used.
func counting(group *meter.Group) string {
	defer group.End(0)
	return group.Method()
}

func (r *runner) group() *meter.Group {
	r.number++
	return meter.NewGroup(fmt.Sprintf("loadtest-%d-%d", os.Getpid(), r.number))
}
