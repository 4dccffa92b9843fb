//go:build crashpoints

package crashpoints

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// program is a service as a process, which can be killed and started again.
type program struct {
	name   string
	args   []string // with the program itself
	health string   // address of its telemetry
	log    *os.File

	cmd  *exec.Cmd
	dead chan struct{} // closed when the process is gone
	// ended is when it was; set before dead is closed.
	ended time.Time
}

// run starts the process and waits until it does its work.
func (p *program) run(t testing.TB) {
	t.Helper()
	cmd, dead := exec.Command(p.args[0], p.args[1:]...), make(chan struct{})
	cmd.Env = append(os.Environ(), "POSTRIDER_METRICS="+p.health, "POSTRIDER_LOG=error", "GOMAXPROCS=1")
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(dead)
		cmd.Wait()
		p.ended = time.Now()
	}()
	p.cmd, p.dead = cmd, dead
	world.WaitFor(t, p.name+" to be ready", func(ctx context.Context) error {
		if p.gone() {
			t.Fatalf("%s ended: %s", p.name, p.cmd.ProcessState)
		}
		return p.healthy(ctx)
	})
}

func (p *program) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/readyz", nil)
	if err != nil {
		return err
	}
	req.Close = true // no connection is left for the process to notice
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// gone reports that the process has ended.
func (p *program) gone() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// context ends with ctx, or when the process does.
func (p *program) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// close ends the process with the test.
func (p *program) close(t testing.TB) {
	defer p.log.Close()
	if p.cmd == nil || p.gone() {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.dead:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.dead
		t.Errorf("%s did not stop", p.name)
	}
	if t.Failed() {
		said, _ := os.ReadFile(p.log.Name())
		t.Logf("%s said:\n%s", p.name, said[max(0, len(said)-8<<10):])
	}
}
