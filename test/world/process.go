package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that a test started. It can be hurt, and started again
// with the same arguments. What it says, in all its lives, goes to a file among
// the artifacts of the test; the end of that is shown when the test failed.
type Process struct {
	// Name says which it is, in the log of the test.
	Name string

	program   string
	args, env []string
	log       *os.File
	// mu is held while the process is being started or ended.
	mu   sync.Mutex
	life *life
	// unasked is how often it ended although nobody had asked.
	unasked int
}

// life is one run of the program.
type life struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended and was waited for
	// asked: a signal of ours ends it.
	asked bool
}

// shown is how much of a log is shown of a failed test, in octets.
const shown = 16 << 10

// StartProcess starts a program and ends it with the test: by SIGTERM, and
// after a while by SIGQUIT, so that it says what it is waiting for.
func StartProcess(t testing.TB, name string, env []string, program string, args ...string) *Process {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(t.ArtifactDir(), name+".log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: name, program: program, args: args, env: append(os.Environ(), env...), log: log}
	p.Start(t)
	t.Cleanup(func() { p.close(t) })
	return p
}

// close ends the process for good.
func (p *Process) close(t testing.TB) {
	defer p.log.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life.asked = true
	if !p.end(syscall.SIGTERM) {
		t.Errorf("%s did not stop", p.Name)
		if !p.end(syscall.SIGQUIT) {
			p.end(syscall.SIGKILL)
		}
	}
	if t.Failed() {
		said := p.Output()
		t.Logf("%s said at last:\n%s", p.Name, said[max(0, len(said)-shown):])
	}
}

// Start starts the process again, once it has ended.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(); err != nil {
		t.Fatalf("start %s: %v", p.Name, err)
	}
}

func (p *Process) start() error {
	l := &life{cmd: exec.Command(p.program, p.args...), done: make(chan struct{})}
	l.cmd.Env, l.cmd.Stdout, l.cmd.Stderr = p.env, p.log, p.log
	if err := l.cmd.Start(); err != nil {
		return err
	}
	p.life = l
	go func() {
		defer close(l.done)
		l.cmd.Wait()
	}()
	return nil
}

// Supervise starts the process again, a second after it ended although nobody
// had asked, as an init system does. It ends with the test.
func (p *Process) Supervise(t testing.TB) {
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
			if code, ended := p.revive(); ended {
				t.Logf("%s ended by itself with exit code %d", p.Name, code)
			}
		}
	})
	t.Cleanup(func() { close(stop); watching.Wait() })
}

// revive starts the process if it has ended by itself.
func (p *Process) revive() (code int, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.life
	select {
	case <-l.done:
	default:
		return 0, false
	}
	if l.asked {
		return 0, false
	}
	p.unasked++
	if p.start() != nil {
		l.asked = true // it cannot be helped, and is told once
	}
	return l.cmd.ProcessState.ExitCode(), true
}

// Unasked is how often the process ended although nobody had asked.
func (p *Process) Unasked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unasked
}

// Stop asks the process to end by SIGTERM, waits until it has, and returns its
// exit code.
func (p *Process) Stop(t testing.TB) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life.asked = true
	if !p.end(syscall.SIGTERM) {
		t.Fatalf("%s did not end", p.Name)
	}
	return p.life.cmd.ProcessState.ExitCode()
}

// Signal sends a signal and does not wait for what comes of it. After SIGKILL
// the process stays dead until it is started again; Kill waits for its death.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if signal == syscall.SIGKILL {
		p.life.asked = true
	}
	if err := p.life.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("send %s to %s: %v", signal, p.Name, err)
	}
}

// Freeze stops the process by SIGSTOP, and returns when each of its threads
// stands still: one of several may run on for a moment after the signal. SIGCONT
// lets it go on.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	p.mu.Lock()
	pid := p.life.cmd.Process.Pid
	p.mu.Unlock()
	WaitFor(t, p.Name+" to stand still", func(context.Context) error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, file := range threads {
			text, err := os.ReadFile(file)
			_, state, _ := bytes.Cut(text, []byte(") ")) // pid (name) state …
			if err == nil && !bytes.HasPrefix(state, []byte("T")) {
				return fmt.Errorf("%s: %.1s", file, state)
			}
		}
		return err
	})
}

// Kill ends the process by SIGKILL and returns when it is dead.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.mu.Lock()
	defer p.mu.Unlock()
	<-p.life.done
}

// end sends a signal that ends the process, which may be stopped, and reports
// that it did in time.
func (p *Process) end(signal syscall.Signal) bool {
	l := p.life
	l.cmd.Process.Signal(signal)
	l.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-l.done:
		return true
	case <-time.After(patience):
		return false
	}
}

// Output is what the process said so far, on stdout and stderr.
func (p *Process) Output() string {
	said, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(said)
}
