// Command demo shows the relay at work: it starts a sandbox in a temporary
// directory, sends one message to a good address and one to a bad one, and
// prints what became of both. Everything stays on this machine.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := demo(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "postrider-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "postrider")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/postrider").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	up := exec.CommandContext(ctx, program, "up")
	up.Dir, up.Stderr = dir, os.Stderr
	up.Cancel = func() error { return up.Process.Signal(syscall.SIGTERM) }
	up.WaitDelay = 30 * time.Second
	ready := &untilReady{done: make(chan struct{})}
	up.Stdout = ready
	if err := up.Start(); err != nil {
		return err
	}
	defer func() {
		up.Process.Signal(syscall.SIGTERM)
		up.Wait()
	}()
	select {
	case <-ready.done:
	case <-ctx.Done():
		return errors.New("the sandbox did not start")
	}
	if err := send("scan@example.test", "you@example.test", "550@example.test"); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	show := func(args ...string) error {
		fmt.Printf("\n$ postrider")
		for _, a := range args {
			fmt.Printf(" %s", a)
		}
		fmt.Println()
		c := exec.CommandContext(ctx, program, args...)
		c.Dir, c.Stdout, c.Stderr = dir, os.Stdout, os.Stderr
		return c.Run()
	}
	// The balance waits until nothing is in flight.
	return errors.Join(show("ledger", "balance"), show("trace", "scan@example.test"), show("sandbox", "ls"), show("sandbox", "show", "1"))
}

// send submits a message as an old scanner would: in clear.
func send(from string, to ...string) error {
	c, err := smtp.Dial("127.0.0.1:2525")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	content, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(content, "From: Scanner <%s>\r\nTo: %s\r\nSubject: Scan of page 1\r\n\r\nHere is your scan.\r\n", from, to[0])
	if err := content.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// untilReady passes the banner on and tells when it came.
type untilReady struct {
	done chan struct{}
	told bool
}

// Write passes p on.
func (u *untilReady) Write(p []byte) (int, error) {
	if !u.told && bytes.Contains(p, []byte("ready")) {
		u.told = true
		close(u.done)
	}
	return os.Stdout.Write(p)
}
