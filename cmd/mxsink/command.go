package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/smtptest"
)

// Exit codes.
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
)

// run is the program: it ends when ctx does, or after --exit-after messages.
// Whatever cobra objects to before the command starts is a matter of usage, and
// so are actions that are not in the grammar.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	started := false
	command := newCommand(&started)
	command.SetArgs(args)
	command.SetOut(stdout)
	command.SetErr(stderr)
	err := command.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case !started || errors.Is(err, smtptest.ErrOptions):
		fmt.Fprintf(stderr, "mxsink: %v; see mxsink --help\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "mxsink: %v\n", err)
	return exitError
}

// newCommand declares the flags. It sets started when they were accepted.
func newCommand(started *bool) *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "mxsink",
		Short: "An MX that does what the recipient address says",
		Long: "mxsink takes mail by SMTP and does what the local part of the recipient says:\n\n" + smtptest.Grammar + `
Everything from "+" on is a detail that never changes the behaviour. What is not
in the grammar is delivered. --at has the same actions for every client at one
stage: connect ehlo starttls tls auth mail rcpt predata content data rset quit.`,
		Example: `  mxsink --dir ./mail
  mxsink --listen 127.0.0.1:2526,127.0.0.2:2526 --journal sink.jsonl --quiet
  mxsink --at starttls=454 --at connect=once-421 --without CHUNKING`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*started = true
			return s.sink(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}

	f := command.Flags()
	f.StringSliceVar(&s.listen, "listen", []string{"127.0.0.1:2526"}, "`address` to listen on; repeat it or separate by commas")
	f.StringVar(&s.hostname, "hostname", "", "`name` in the greeting and the made certificate (default mx.postrider.test)")
	f.BoolVar(&s.lmtp, "lmtp", false, "speak LMTP")
	f.BoolVar(&s.noTLS, "no-tls", false, "offer no STARTTLS")
	f.BoolVar(&s.implicitTLS, "implicit-tls", false, "speak TLS from the first octet")
	f.StringVar(&s.cert, "cert", "", "PEM `file` of the certificate chain, with --key; otherwise one is made")
	f.StringVar(&s.key, "key", "", "PEM `file` of its key")
	f.StringVar(&s.caOut, "ca-out", "", "write the authority of the made certificate to `file` (PEM)")
	f.StringVar(&s.user, "user", "", "`name` that clients have to give by AUTH")
	f.StringVar(&s.password, "password", "", "its `password`")
	f.Int64Var(&s.maxSize, "max-size", 0, "most `octets` of a message; -1 is no limit (default 67108864)")
	f.IntVar(&s.maxConnections, "max-connections", 0, "most `connections` at a time; the rest gets 421 (default no limit)")
	f.StringSliceVar(&s.without, "without", nil, "EHLO `keyword` to hide, and to refuse when used")
	f.StringToStringVar(&s.at, "at", nil, "`stage=action` for every client")
	f.StringVar(&s.dir, "dir", "", "keep the mail in `directory`: new/*.eml and index.jsonl")
	f.StringVar(&s.journal, "journal", "", "append one JSON line for each message and recipient to `file`")
	f.BoolVar(&s.countOnly, "count-only", false, "keep nothing and make no digests: the fastest sink")
	f.BoolVar(&s.quiet, "quiet", false, "no line for each message")
	f.Int64Var(&s.exitAfter, "exit-after", 0, "end after so many `messages` (default never)")
	command.MarkFlagsRequiredTogether("cert", "key")
	command.MarkFlagsMutuallyExclusive("no-tls", "implicit-tls")
	command.MarkFlagsMutuallyExclusive("no-tls", "cert")
	command.MarkFlagsMutuallyExclusive("ca-out", "cert")
	command.MarkFlagsMutuallyExclusive("ca-out", "no-tls")
	command.MarkFlagsMutuallyExclusive("count-only", "dir")
	command.MarkFlagsMutuallyExclusive("count-only", "journal")
	return command
}
