package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/loadtest/generate"
	"github.com/postrider/postrider/loadtest/journal"
)

// load is what the flags of generate and run say about the load.
type load struct {
	generate.Config
	size size
}

func (l *load) bind(flags *pflag.FlagSet) {
	l.size = 10 << 10
	flags.StringVar(&l.Server, "server", "127.0.0.1:2525", "relay to submit to")
	flags.IntVar(&l.Messages, "messages", 2000, "messages to submit")
	flags.IntVar(&l.Recipients, "recipients", 2, "recipients of each message")
	flags.Float64Var(&l.Bad, "bad", 0.10, "share of recipients that the sink refuses, 0 to 1")
	flags.IntVar(&l.Connections, "connections", 20, "connections side by side")
	flags.Var(&l.size, "size", "octets of each message, for example 10KiB")
	flags.IntVar(&l.PerConnection, "per-connection", 0, "messages on a connection before it is opened anew; 0: no end")
	flags.Uint64Var(&l.Seed, "seed", 1, "decides which recipients are bad, and the text")
	flags.StringSliceVar(&l.Domains, "domain", []string{"load.test"}, "domains of the recipients")
	flags.StringVar(&l.Sender, "sender", "device@sender.test", "reverse-path; <> for the null one")
	flags.StringVar(&l.Helo, "helo", "load.test", "name given in EHLO")
	flags.BoolVar(&l.StartTLS, "starttls", false, "demand STARTTLS; the certificate is not verified")
	flags.BoolVar(&l.Pipelining, "pipelining", true, "use PIPELINING if it is offered")
	flags.IntVar(&l.Retries, "retries", 0, "further attempts after a 4yz or a lost connection")
	flags.DurationVar(&l.Think, "think", 0, "wait of a connection between an answer and its next message")
	flags.Float64Var(&l.Rate, "rate", 0, "messages that fall due per second, over all connections; 0: as fast as the relay answers")
	flags.DurationVar(&l.Timeout, "timeout", 0, "bound of each step of the dialogue (default 1m)")
}

// config is the configuration with what the flags cannot hold directly.
func (l *load) config() generate.Config {
	c := l.Config
	c.Size = int(l.size)
	c.Sender = strings.Trim(c.Sender, "<>")
	return c
}

// errNothingAccepted: a run of which nothing can be proved is no success.
var errNothingAccepted = errors.New("no message was accepted")

func newGenerate() *cobra.Command {
	var (
		l      load
		output form
		path   string
		fsync  bool
	)
	command := &cobra.Command{
		Use:   "generate",
		Short: "Submit messages to a relay and keep a journal",
		Args:  cobra.NoArgs,
	}
	flags := command.Flags()
	l.bind(flags)
	output.bind(flags)
	flags.StringVar(&path, "journal", "client.jsonl", "journal to append to")
	flags.BoolVar(&fsync, "fsync", false, "sync the journal before each final dot, in groups")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if err := errors.Join(output.validate(), l.config().Validate()); err != nil {
			return err
		}
		ctx, stderr := command.Context(), command.ErrOrStderr()
		client, err := journal.Open(path, fsync)
		if err != nil {
			return failed(ctx, err)
		}
		summary, err := submit(ctx, l.config(), client, stderr)
		err = errors.Join(err, client.Close())
		if written := output.write(command.OutOrStdout(), summary, summary.WriteText); err == nil {
			err = written
		}
		if err == nil && summary.Accepted == 0 {
			err = errNothingAccepted
		}
		return failed(ctx, err)
	}
	return command
}

// submit makes the load, with progress and plots on stderr.
func submit(ctx context.Context, c generate.Config, client *journal.Writer, stderr io.Writer) (generate.Summary, error) {
	generator, err := generate.New(c, client)
	if err != nil {
		return generate.Summary{}, err
	}
	stop := watch(stderr, c.Messages, generator.Progress)
	summary, err := generator.Run(ctx)
	stop()
	return summary, errors.Join(err, summary.WritePlot(stderr))
}

// size is a flag of octets: 10240, 10KiB, 10kB, 1MiB.
type size int

func (s *size) String() string { return strconv.Itoa(int(*s)) }

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	units := []struct {
		suffix string
		factor int
	}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"kb", 1000}, {"mb", 1_000_000}, {"k", 1 << 10}, {"m", 1 << 20}, {"b", 1}, {"", 1}}
	lower := strings.ToLower(strings.TrimSpace(text))
	for _, unit := range units {
		number, ok := strings.CutSuffix(lower, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || n < 0 || n > math.MaxInt32/unit.factor {
			break
		}
		*s = size(n * unit.factor)
		return nil
	}
	return fmt.Errorf("%q is no size", text)
}
