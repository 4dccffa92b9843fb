// Command mxsink is an MX that does what the recipient address says: deliver,
// refuse, delay or break off. It is the far end of demonstrations and of load
// tests, and keeps an account of what it took.
//
// Its engine and its grammar are those of package smtptest. Standard output has
// one line for each message and a summary at the end; standard error says where
// it listens. Exit codes: 0 done, 1 error, 2 usage.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
