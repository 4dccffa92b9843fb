package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

func newCheck(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Ask what the relay would do, without sending anything"}
	c.AddCommand(newCheckAccept(f), newCheckObserved(f))
	return c
}

// attempted is a conversation that did not take place.
type attempted struct {
	fromIP, helo, mailFrom, identity, authority, listener, name, tls, size string
	rcpts, headerFrom                                                      []string
}

// answers to one: those to each command, up to the first that says no to all.
type checked struct {
	Admitted bool        `json:"admitted"`
	Facts    authz.Facts `json:"facts"`
	Answers  []*opinion  `json:"answers"`
}

func newCheckAccept(f *flags) *cobra.Command {
	var t attempted
	c := withOutput(f, answers, &cobra.Command{
		Use:   "accept --from-ip ADDRESS --mail-from ADDRESS --rcpt ADDRESS",
		Short: "What would be answered, and why",
		Long: `Say what ingress would answer to a client, and why: by the same function, under
the rules of the configuration and the registry as it is now. Nothing is sent.
Exits 10 when the answer is no.

  postrider check accept --from-ip 10.2.3.4 --helo prn --mail-from prn@campus.test --rcpt anna@example.org
  postrider check accept --from-ip 10.2.3.4 --identity app-1 --listener submission --mail-from "" --rcpt a@example.org --size 20MB

The client's name is looked up as ingress does, unless --name says it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("from-ip") || !cmd.Flags().Changed("mail-from") || len(t.rcpts) == 0 {
				return usage("say who sends what to whom: --from-ip, --mail-from (\"\" for the null path) and --rcpt")
			}
			return withAsking(cmd.Context(), f, func(a *asking) error {
				facts, rcpts, err := t.facts(cmd.Context(), a, cmd.Flags().Changed("name"))
				if err != nil {
					return err
				}
				if _, known := a.reg.ByCredential(t.identity); t.identity != "" && !known {
					fmt.Fprintf(cmd.ErrOrStderr(), "No credential is called %s: its log-in stands for no device, and fails unless Kerberos or LDAP knows it. See: postrider credential ls\n", visible(t.identity))
				}
				r := a.converse(facts, rcpts, t.headerFrom)
				if f.output == "json" {
					err = printJSON(cmd.OutOrStdout(), r)
				} else {
					err = r.print(cmd.OutOrStdout())
				}
				if err == nil && !r.Admitted {
					return no(service.ExitNo, "the answer is no")
				}
				return err
			})
		},
	})
	flags := c.Flags()
	flags.StringVar(&t.fromIP, "from-ip", "", "address of the client")
	flags.StringVar(&t.helo, "helo", "", "what it says in EHLO")
	flags.StringVar(&t.mailFrom, "mail-from", "", `sender of the envelope; "" for the null path`)
	flags.StringArrayVar(&t.rcpts, "rcpt", nil, "recipient (repeatable)")
	flags.StringVar(&t.identity, "identity", "", "the name it authenticated as")
	flags.StringVar(&t.authority, "authority", "", "who vouched for it: local, kerberos or ldap")
	flags.StringVar(&t.listener, "listener", "", "name of the listener (default: the first of mode relay)")
	flags.StringArrayVar(&t.headerFrom, "header-from", nil, "From field of the message (repeatable)")
	flags.StringVar(&t.size, "size", "", "size of the message, as 20MB")
	flags.StringVar(&t.name, "name", "", `its forward-confirmed name; "" for none (default: looked up)`)
	flags.StringVar(&t.tls, "tls", "", "TLS version and cipher; empty in clear")
	return c
}

// facts are what ingress would have gathered.
func (t *attempted) facts(ctx context.Context, a *asking, named bool) (*authz.Facts, []smtp.ForwardPath, error) {
	address, err := parseAddr(t.fromIP)
	if err != nil {
		return nil, nil, usage("--from-ip: %q is not an IP address", t.fromIP)
	}
	listener, err := a.listenerNamed(t.listener)
	if err != nil {
		return nil, nil, err
	}
	f := &authz.Facts{
		Listener: listener.Name, Submission: listener.Mode != config.ModeRelay, Address: address, Helo: t.helo, TLS: t.tls,
		Identity: t.identity, Authority: authz.Authority(t.authority), Name: t.name, NameDoubt: !named, At: time.Now().UTC(),
	}
	if !slices.Contains([]authz.Authority{"", authz.Local, authz.Kerberos, authz.LDAP}, f.Authority) {
		return nil, nil, usage("--authority: %q is none of local, kerberos, ldap", t.authority)
	}
	if from := strings.Trim(t.mailFrom, "<>"); from != "" {
		if f.ReversePath.Address, err = smtp.ParseAddress(from); err != nil {
			return nil, nil, usage("--mail-from: %q: %w", t.mailFrom, err)
		}
	}
	if t.size != "" {
		size, err := config.ParseSize(t.size)
		if err != nil {
			return nil, nil, usage("--size: %w", err)
		}
		f.Size = int64(size)
	}
	var rcpts []smtp.ForwardPath
	for _, s := range t.rcpts {
		to, err := smtp.ParseAddress(strings.Trim(s, "<>"))
		if err != nil {
			return nil, nil, usage("--rcpt: %q: %w", s, err)
		}
		rcpts = append(rcpts, smtp.ForwardPath{Address: to})
	}
	if !named {
		err = a.lookUp(ctx, f)
	}
	return f, rcpts, err
}

// converse asks what ingress asks: at MAIL, at each RCPT and, where the From
// fields are known, at the end of DATA.
func (a *asking) converse(f *authz.Facts, rcpts []smtp.ForwardPath, from []string) *checked {
	r := &checked{Facts: *f}
	if first := a.decide(f, "mail"); !first.passes() {
		r.Answers = []*opinion{first}
		return r
	}
	var taken []*smtp.ForwardPath
	r.Admitted = true
	for i := range rcpts {
		f.Recipient, f.Recipients = &rcpts[i], len(taken)
		o := a.decide(f, "rcpt")
		r.Answers = append(r.Answers, o)
		if !o.passes() {
			r.Admitted = false
			continue
		}
		taken = append(taken, f.Recipient)
	}
	if len(from) == 0 || len(taken) == 0 {
		return r
	}
	header := mail.Header("From: " + strings.Join(from, "\r\nFrom: ") + "\r\n").From()
	f.HeaderFrom, f.FromFault = header.Addresses, authz.FaultOf(header)
	r.Facts.HeaderFrom, r.Facts.FromFault = f.HeaderFrom, f.FromFault
	for _, to := range taken { // one that is refused refuses the message
		f.Recipient = to
		o := a.decide(f, "data")
		if !o.passes() || to == taken[len(taken)-1] {
			r.Answers = append(r.Answers, o)
		}
		if !o.passes() {
			r.Admitted = false
			break
		}
	}
	return r
}

func (r *checked) print(out io.Writer) error {
	w := &strings.Builder{}
	for i, o := range r.Answers {
		if i > 0 {
			fmt.Fprintln(w)
		}
		verdict := "+ yes"
		switch {
		case o.Outcome == authz.Hold:
			verdict = "! yes, and held"
		case !o.passes():
			verdict = "x no"
		}
		if o.Recipient != "" && o.Stage == "rcpt" {
			verdict += ", for " + o.Recipient
		}
		fmt.Fprintf(w, "%s, at %s\n", visible(verdict), strings.ToUpper(o.Stage))
		o.write(w)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

// write is an opinion in lines of "what  text".
func (o *opinion) write(w io.Writer) {
	line(w, "says", o.Reply)
	line(w, "because", reasonOf(o.Rule, o.About, o.Reason))
	line(w, "switch", o.Switch)
	lines(w, "observed", prefixed(o.Observed, "would stop it, and only observes: "))
	lines(w, "nearest", o.Nearest)
	o.writeAdvice(w)
}

// writeAdvice is what can be done and who can.
func (o *opinion) writeAdvice(w io.Writer) {
	lines(w, "fix", o.Fix)
	lines(w, "do", o.Commands)
	lines(w, "who", o.Who)
}

func reasonOf(rule, about, reason string) string {
	s := "rule " + rule
	if about != "" {
		s += " (" + about + ")"
	}
	if reason != "" {
		s += ": " + reason
	}
	return s
}

func prefixed(list []string, prefix string) (out []string) {
	for _, s := range list {
		out = append(out, prefix+s)
	}
	return out
}

// line is one line of an answer; an empty value has none.
func line(w io.Writer, name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%-10s %s\n", name, visible(value))
	}
}

// lines is a line for each value, named once.
func lines(w io.Writer, name string, values []string) {
	for _, v := range values {
		fmt.Fprintf(w, "%-10s %s\n", name, visible(v))
		name = ""
	}
}
