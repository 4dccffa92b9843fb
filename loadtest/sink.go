package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/loadtest/journal"
	"github.com/postrider/postrider/loadtest/sink"
)

// mailbox is what the flags of sink and run say about the sink.
type mailbox struct {
	sink.Config
	listen string
	fsync  bool
}

func (m *mailbox) bind(flags *pflag.FlagSet, prefix string) {
	flags.StringVar(&m.listen, "listen", "127.0.0.1:2526", "address of the sink")
	flags.BoolVar(&m.StartTLS, prefix+"starttls", false, "let the sink offer STARTTLS with a certificate of its own making")
	flags.IntVar(&m.DropAfterDot, "drop-after-dot", 0, "let the sink close the connection instead of answering every n-th dot")
	flags.DurationVar(&m.Delay, "delay", 0, "let the sink wait before it answers the dot")
}

// open listens, so that the address is there before anything is sent.
func (m *mailbox) open(recorder *journal.Writer) (*sink.Sink, net.Listener, error) {
	server, err := sink.New(m.Config, recorder)
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", m.listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	return server, listener, nil
}

func newSink() *cobra.Command {
	var (
		m            mailbox
		output       form
		path, timing string
	)
	command := &cobra.Command{
		Use:   "sink",
		Short: "Take mail, count it, and keep a journal, until interrupted",
		Args:  cobra.NoArgs,
	}
	flags := command.Flags()
	m.bind(flags, "")
	output.bind(flags)
	flags.StringVar(&path, "journal", "sink.jsonl", "journal to append to")
	flags.StringVar(&timing, "transactions", "", "journal of when each dot was read and answered (default: none)")
	flags.BoolVar(&m.fsync, "fsync", false, "sync the journal before each 250, in groups")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if err := output.validate(); err != nil {
			return err
		}
		if timing != "" {
			transactions, err := journal.Open(timing, false)
			if err != nil {
				return failed(context.Background(), err)
			}
			defer transactions.Close()
			m.Transactions = transactions
		}
		// Being interrupted is how a sink ends.
		return failed(context.Background(), serve(command, &m, path, output))
	}
	return command
}

func serve(command *cobra.Command, m *mailbox, path string, output form) error {
	recorder, err := journal.Open(path, m.fsync)
	if err != nil {
		return err
	}
	server, listener, err := m.open(recorder)
	if err != nil {
		return errors.Join(err, recorder.Close())
	}
	fmt.Fprintf(command.ErrOrStderr(), "sink on %s, journal %s\n", listener.Addr(), path)
	err = server.Run(command.Context(), listener)
	counts := server.Counts()
	return errors.Join(err, recorder.Close(), output.write(command.OutOrStdout(), counts, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d connections, %d messages (%d reports), %d dropped after the dot, %d recipients refused, %d octets\n",
			counts.Connections, counts.Messages, counts.Reports, counts.Dropped, counts.RefusedRecipients, counts.Octets)
		return err
	}))
}
