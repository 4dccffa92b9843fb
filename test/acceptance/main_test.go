package acceptance

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	status := m.Run()
	alive.end()
	os.Exit(status)
}

// alive is what the relays of the suite live in: each is started by the first
// test that asks for it, and runs until the last has ended.
var alive = newLifetime()

// lifetime is a testing.TB that is no test's. What fails in it fails the
// program.
type lifetime struct {
	testing.TB
	ctx  context.Context
	stop context.CancelFunc

	mu       sync.Mutex
	cleanups []func()
}

func newLifetime() *lifetime {
	ctx, stop := context.WithCancel(context.Background())
	return &lifetime{ctx: ctx, stop: stop}
}

func (l *lifetime) Context() context.Context          { return l.ctx }
func (l *lifetime) Helper()                           {}
func (l *lifetime) Name() string                      { return "acceptance" }
func (l *lifetime) Failed() bool                      { return false }
func (l *lifetime) Log(args ...any)                   { fmt.Fprintln(os.Stderr, args...) }
func (l *lifetime) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (l *lifetime) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (l *lifetime) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (l *lifetime) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (l *lifetime) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (l *lifetime) Cleanup(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

func (l *lifetime) TempDir() string {
	dir, err := os.MkdirTemp("", "acceptance-")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			l.Error(err)
		}
	})
	return dir
}

// end undoes what was made, the last first.
func (l *lifetime) end() {
	l.stop()
	for i := len(l.cleanups) - 1; i >= 0; i-- {
		l.cleanups[i]()
	}
}
