// Package contender sets up, starts and stops the servers of a comparison, each
// in directories of its own and on free ports of 127.0.0.1:
//
//	postfix-default          Postfix as it comes, relaying to the sink
//	postfix-tuned            with the limits raised that bound a busy relay
//	postfix-tuned-opendkim   the tuned one, signing with OpenDKIM (RSA-2048)
//	postrider                `postrider up`, signing with RSA-2048 and Ed25519
//
// All log to a file as much as they do by default, and bring a message to the
// disk before they answer 250. A server is started for each run and stopped
// after it, so that none takes time from another, and none has processes left
// over from another load; its directories stay, as they would.
//
// Limits: Postfix can only be started by root, and gives its queue to its own
// user; the directory must be open to that user (0755 up to the root).
package contender

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/loadtest/compare/meter"
)

// The names of the contenders.
const (
	PostfixDefault  = "postfix-default"
	PostfixTuned    = "postfix-tuned"
	PostfixOpenDKIM = "postfix-tuned-opendkim"
	Postrider       = "postrider"
)

// Names are all contenders, in the order in which they are shown.
func Names() []string { return []string{PostfixDefault, PostfixTuned, PostfixOpenDKIM, Postrider} }

// Site is what all contenders have in common.
type Site struct {
	// Dir gets a directory for each.
	Dir string
	// Sink is the address to which all mail goes.
	Sink string
	// Postrider is its program.
	Postrider string
}

// Contender is one server.
type Contender struct {
	Name string
	// Signatures that it adds, as algorithm and bits.
	Signatures []string

	programs  []program
	configure func(dir string, site Site) (setup, error)
	site      Site
}

// program is what must be installed, and how.
type program struct{ name, install string }

// setup is a server that is configured and not yet started.
type setup struct {
	processes []process // in the order of their start
	address   string    // where it takes mail
}

// process is one that is started by us.
type process struct {
	argv []string
	// listens is the address by which one knows that it is ready, and
	// greets whether it then speaks first.
	listens string
	greets  bool
}

// New returns the contender with this name.
func New(name string, site Site) (*Contender, error) {
	postfix := program{"postfix", "apt-get install postfix"}
	switch name {
	case PostfixDefault:
		return &Contender{name, nil, []program{postfix}, configurePostfix(false), site}, nil
	case PostfixTuned:
		return &Contender{name, nil, []program{postfix}, configurePostfix(true), site}, nil
	case PostfixOpenDKIM:
		opendkim := program{"opendkim", "apt-get install opendkim"}
		return &Contender{name, []string{"rsa-sha256 2048"}, []program{postfix, opendkim}, configureSigning, site}, nil
	case Postrider:
		return &Contender{
			name, []string{"rsa-sha256 2048", "ed25519-sha256 512"},
			[]program{{site.Postrider, "make build, or name it with --postrider"}}, configurePostrider, site,
		}, nil
	}
	return nil, fmt.Errorf("server: %q is none of %s", name, strings.Join(Names(), ", "))
}

// Missing says which programs are not there, and how to get them.
func (c *Contender) Missing() error {
	var missing []error
	for _, p := range c.programs {
		if _, err := find(p.name); err != nil {
			missing = append(missing, fmt.Errorf("%s needs %s: %s", c.Name, p.name, p.install))
		}
	}
	if c.Name != Postrider && os.Geteuid() != 0 {
		missing = append(missing, fmt.Errorf("%s can only be started by root", c.Name))
	}
	return errors.Join(missing...)
}

// find looks also where Debian keeps programs for root.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

// located is the path of a program, or its name when it is not there: whoever
// starts it is told so.
func located(name string) string {
	if path, err := find(name); err == nil {
		return path
	}
	return name
}

// SetAside renames the directory of a contender that failed. It begins anew with
// an empty one, and its logs can be read.
func (c *Contender) SetAside() error {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.failed.%d", c.dir(), n)
		if _, err := os.Stat(aside); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(c.dir(), aside)
		}
	}
}

func (c *Contender) dir() string { return filepath.Join(c.site.Dir, c.Name) }

// Running is a started server.
type Running struct {
	// Address is where it takes mail.
	Address string

	group  *meter.Group
	grace  time.Duration
	exited []chan error
	stop   sync.Once
}

// patience bounds start and stop.
const patience = 60 * time.Second

// Start starts the server in the group and returns when it takes mail. What is
// in wrap comes before each command. When it fails nothing is left running.
func (c *Contender) Start(ctx context.Context, group *meter.Group, wrap func(n int) []string) (*Running, error) {
	if err := os.MkdirAll(c.dir(), 0o755); err != nil {
		return nil, err
	}
	setup, err := c.configure(c.dir(), c.site)
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", c.Name, err)
	}
	running := &Running{Address: setup.address, group: group, grace: patience}
	for n, p := range setup.processes {
		if wrap != nil {
			p.argv = append(wrap(n), p.argv...)
		}
		if err := running.start(ctx, p, filepath.Join(c.dir(), fmt.Sprintf("output.%d", n))); err != nil {
			running.Stop()
			return nil, fmt.Errorf("start %s: %w", c.Name, err)
		}
	}
	return running, nil
}

func (r *Running) start(ctx context.Context, p process, output string) error {
	log, err := os.Create(output)
	if err != nil {
		return err
	}
	defer log.Close()
	// Stop ends it, not ctx: that would kill the parent and not its children.
	command := r.group.Command(context.WithoutCancel(ctx), p.argv...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return err
	}
	r.group.Started(command)
	exited := make(chan error, 1)
	r.exited = append(r.exited, exited)
	go func() { exited <- command.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := probe(ctx, p.listens, p.greets)
		if err == nil {
			return nil
		}
		select {
		case state := <-exited:
			exited <- state
			return fmt.Errorf("%s ended: %s: %s", p.argv[0], command.ProcessState, tail(output))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %s", err, tail(output))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probe reports whether a server listens there, and says 220 if it is one that
// greets.
func probe(ctx context.Context, address string, greets bool) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !greets {
		return nil
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "220") {
		err = fmt.Errorf("greeting %.100q", line)
	}
	if err == nil {
		_, err = conn.Write([]byte("QUIT\r\n"))
	}
	return err
}

// Stop ends the server and all its processes. It may be called again.
func (r *Running) Stop() {
	r.stop.Do(func() {
		r.group.End(r.grace)
		for _, exited := range r.exited {
			<-exited
		}
	})
}

// tail is the end of what a program wrote, in one line.
func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(bytes.ReplaceAll(bytes.TrimSpace(text[max(0, len(text)-600):]), []byte("\n"), []byte(" | ")))
}

// freeAddress is a port of 127.0.0.1 that nobody uses now. It lies below the
// ports that the kernel gives to connections, so that none takes it meanwhile.
func freeAddress() (string, error) {
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(10_000+rand.IntN(20_000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		defer listener.Close()
		return listener.Addr().String(), nil
	}
}
