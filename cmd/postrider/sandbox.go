package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtptest"
)

func newSandbox(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "sandbox", Short: "Look into the sandbox's mailbox"}
	c.AddCommand(newSandboxList(f), newSandboxShow(f))
	return c
}

func newSandboxList(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls",
		Short: "List what arrived",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, entries, err := readMailbox(f)
			if err != nil {
				return err
			}
			l, err := newListing(f, cmd.OutOrStdout(), []string{"n", "time", "from", "to", "size", "subject"}, func(e numbered) []string {
				from := e.ReversePath
				if from == "" {
					from = "<>"
				}
				return []string{fmt.Sprint(e.N), e.Time.Local().Format(time.DateTime), from, strings.Join(e.Recipients, ","), size(e.Size), e.Subject}
			})
			if err != nil {
				return err
			}
			for i, e := range entries {
				if err := l.add(numbered{i + 1, e}); err != nil {
					return err
				}
			}
			return l.end()
		},
	})
}

// numbered is an entry with its place in the mailbox, counted from 1.
type numbered struct {
	N int `json:"n"`
	smtptest.IndexEntry
}

func newSandboxShow(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "show [N|QUEUE-ID|MESSAGE-ID]",
		Short: "Print a message as it arrived (default: the last)",
		Long:  "Print a message exactly as the recipient's server got it: the last, the Nth of \"sandbox ls\", or one by its queue id or Message-ID.\n\n  postrider sandbox show | opendkim-testmsg",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, entries, err := readMailbox(f)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("the mailbox is empty")}
			}
			want := fmt.Sprint(len(entries))
			if len(args) == 1 {
				want = args[0]
			}
			for i := len(entries) - 1; i >= 0; i-- {
				file := filepath.Join(dir, entries[i].File)
				if fmt.Sprint(i+1) == want || entries[i].MessageID != "" && unbracketed(entries[i].MessageID) == unbracketed(want) || holdsID(file, want) {
					return printFile(cmd.OutOrStdout(), file)
				}
			}
			return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no message %s in the mailbox; see: postrider sandbox ls", want)}
		},
	}
}

func unbracketed(id string) string { return strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">") }

// holdsID reports that our Received field of the message has the queue id.
func holdsID(file, want string) bool {
	id, err := mail.ParseQueueID(want)
	if err != nil {
		return false
	}
	content, err := os.Open(file)
	if err != nil {
		return false
	}
	defer content.Close()
	start, err := io.ReadAll(io.LimitReader(content, 64<<10))
	if err != nil {
		return false
	}
	header, _, _ := mail.SplitHeader(start, true)
	for _, received := range header.All("Received") {
		if strings.Contains(received, " id "+string(id)) || strings.Contains(received, "\tid "+string(id)) {
			return true
		}
	}
	return false
}

func printFile(out io.Writer, file string) error {
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(out, content)
	return err
}

func readMailbox(f *flags) (dir string, entries []smtptest.IndexEntry, err error) {
	cfg, err := service.LoadConfig(f.config)
	if err != nil {
		return "", nil, err
	}
	if !cfg.Sandbox {
		return "", nil, usage("%s is the configuration of a real relay: only the sandbox has a mailbox", cfg.Path)
	}
	return readMailboxOf(cfg)
}

func readMailboxOf(cfg *config.Config) (dir string, entries []smtptest.IndexEntry, err error) {
	dir = sandboxDir(cfg)
	if _, err := os.Stat(dir); err != nil {
		return "", nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no sandbox in %s; start one with: postrider up", cfg.Relay.Data)}
	}
	entries, err = smtptest.ReadIndex(dir)
	return dir, entries, err
}
