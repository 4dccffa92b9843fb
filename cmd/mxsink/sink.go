package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/smtptest"
)

// settings are the flags.
type settings struct {
	listen                   []string
	hostname                 string
	lmtp, noTLS, implicitTLS bool
	cert, key, caOut         string
	user, password           string
	maxSize                  int64
	maxConnections           int
	without                  []string
	at                       map[string]string
	dir, journal             string
	countOnly, quiet         bool
	exitAfter                int64
}

// sink takes mail until ctx ends or enough has come, then prints the summary.
func (s settings) sink(ctx context.Context, stdout, stderr io.Writer) (failed error) {
	options, closeStores, err := s.options(stdout)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, closeStores()) }()
	mx, err := smtptest.New(options)
	if err != nil {
		return err
	}
	if s.caOut != "" {
		if err := os.WriteFile(s.caOut, mx.CAPEM(), 0o644); err != nil {
			return fmt.Errorf("write authority: %w", err)
		}
	}
	fmt.Fprintf(stderr, "mxsink: listening on %s\n", strings.Join(mx.Addrs(), " "))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	if s.exitAfter > 0 {
		go func() {
			// The final replies that are due are still written: Run lets a
			// session answer before it says 421.
			_ = mx.WaitFor(ctx, func(c smtptest.Counts) bool { return c.Stored >= s.exitAfter })
			cancel()
		}()
	}
	err = mx.Run(ctx)
	printSummary(stdout, mx.Counts(), time.Since(start))
	return err
}

// options puts the stores together. The last of them prints, so that a line
// is seen only of what the others have.
func (s settings) options(stdout io.Writer) (o smtptest.Options, closeStores func() error, err error) {
	o = smtptest.Options{
		Addrs: s.listen, Hostname: s.hostname, LMTP: s.lmtp, NoTLS: s.noTLS, ImplicitTLS: s.implicitTLS,
		User: s.user, Password: s.password, MaxSize: s.maxSize, MaxConnections: s.maxConnections,
		Without: s.without, At: make(map[smtptest.Stage]string), NoDigest: s.countOnly || s.dir == "" && s.journal == "",
	}
	for stage, action := range s.at {
		o.At[smtptest.Stage(stage)] = action
	}
	if s.cert != "" {
		certificate, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return o, nil, fmt.Errorf("load certificate: %w", err)
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	var stores smtptest.Stores
	var closers []io.Closer
	closeStores = func() error {
		var all error
		for _, c := range closers {
			all = errors.Join(all, c.Close())
		}
		return all
	}
	if s.dir != "" {
		maildir, err := smtptest.OpenMaildir(s.dir)
		if err != nil {
			return o, nil, err
		}
		stores, closers = append(stores, maildir), append(closers, maildir)
	}
	if s.journal != "" {
		file, err := os.OpenFile(s.journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return o, nil, errors.Join(fmt.Errorf("open journal: %w", err), closeStores())
		}
		stores, closers = append(stores, smtptest.NewJournal(file)), append(closers, file)
	}
	if !s.quiet && !s.countOnly {
		stores = append(stores, &printer{w: stdout})
	}
	o.Store = stores
	return o, closeStores, nil
}
