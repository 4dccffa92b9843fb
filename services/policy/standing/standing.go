// Package standing says what the directory knows of the address of a sender: that
// it is there, and whether it is a person's, a function's, a mailing list's or a
// service account's (P31, S5).
//
// Consumes: the directory of policy.directory; questions on mailbox.Directory, of
// ingress. Produces: their answers; and for package review the class of a
// registered sender.
//
// Guarantees: the directory refuses nobody by being down. What it last said of an
// address holds for 72 h then; of an address that it was never asked about there is
// a doubt, which rules read as "go on" (personal_sender) or as a question for the
// callout (sender_must_exist). Doubts are counted.
//
// Failures: an answer that is no entry, or several entries of which one is no
// person's, is no person's. A directory that cannot be read is one that is down.
//
// Limits: 20,000 answers are remembered, by this process; a fresh one knows none. No
// question takes longer than 3 s, and 32 are asked at a time. A directory that did
// not answer five times in a row is not asked for 10 s.
package standing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/directory"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/queue"
)

const (
	remembered = 20_000
	lastAnswer = 72 * time.Hour
	// patience is how long the directory has for an answer.
	patience = 3 * time.Second
	abreast  = 32 // questions at a time
	// givenUp is how often in a row it did not answer before it is spared, and for
	// how long.
	givenUp = 5
	spared  = 10 * time.Second
)

// Class is what kind of address it is.
type Class string

// The classes.
const (
	Person   Class = "person"
	Function Class = "function"
	List     Class = "list"
	Service  Class = "service"
	Other    Class = "other" // there, and of none of these
	Absent   Class = "absent"
)

// Standing is the class as authorization knows it.
func (c Class) Standing() authz.Standing {
	switch c {
	case Person:
		return authz.StandingPersonal
	case Absent:
		return authz.StandingUnknown
	}
	return authz.StandingValid
}

// ErrDown reports a directory that says nothing, and said nothing of the address
// lately.
var ErrDown = errors.New("directory does not answer")

// Directory looks addresses up.
type Directory struct {
	cfg     config.Directory
	bus     *queue.Bus
	ask     func(ctx context.Context, address string) (Class, error)
	breaker *gobreaker.CircuitBreaker[Class]
	last    *otter.Cache[string, Class]
	log     zerolog.Logger
	answers *prometheus.CounterVec
}

// Open makes the directory of a configuration, and asks nobody.
func Open(cfg config.Directory, bus *queue.Bus, log zerolog.Logger, metrics prometheus.Registerer) (*Directory, error) {
	client, err := directory.Open(cfg.LDAP(), "policy.directory")
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, bus: bus, log: log}
	d.ask = func(ctx context.Context, address string) (Class, error) { return d.lookUp(ctx, client, address) }
	d.breaker = gobreaker.NewCircuitBreaker[Class](gobreaker.Settings{
		MaxRequests: 1, Timeout: spared, ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= givenUp },
	})
	d.last = otter.Must(&otter.Options[string, Class]{MaximumSize: remembered, ExpiryCalculator: otter.ExpiryWriting[string, Class](lastAnswer)})
	d.answers = promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_policy_directory_answers_total",
		Help: "Addresses of senders that were looked up in the directory, by answer (person, function, list, service, other, absent), remembered where it was down, or none.",
	}, []string{"answer"})
	return d, nil
}

// Class is what the directory says of an address, or last said.
func (d *Directory) Class(ctx context.Context, address string) (Class, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	class, err := d.breaker.Execute(func() (Class, error) { return d.ask(ctx, address) })
	if err == nil {
		d.last.Set(address, class)
		d.answers.WithLabelValues(string(class)).Inc()
		return class, nil
	}
	d.log.Warn().Err(err).Msg("directory of senders does not answer")
	if class, ok := d.last.GetIfPresent(address); ok {
		d.answers.WithLabelValues("remembered").Inc()
		return class, nil
	}
	d.answers.WithLabelValues("none").Inc()
	return "", fmt.Errorf("%w: %w", ErrDown, err)
}

// lookUp finds the entries of an address.
func (d *Directory) lookUp(ctx context.Context, client *directory.Client, address string) (class Class, err error) {
	unreached := client.Do(ctx, func(c *directory.Conn) (broken bool) {
		class, err = d.search(c, address)
		return directory.Down(err)
	})
	return class, errors.Join(unreached, err)
}

func (d *Directory) search(c *directory.Conn, address string) (Class, error) {
	if err := c.BindSearcher(); err != nil {
		return "", fmt.Errorf("bind: %w", err)
	}
	const some, seconds = 10, int(patience / time.Second)
	found, err := c.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, some, seconds, false,
		directory.Filter(d.cfg.Filter, address), []string{d.cfg.Attribute}, nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return "", fmt.Errorf("search below policy.directory.base: %w", err)
	}
	class := Absent
	for _, entry := range found.Entries {
		if class == Absent || class == Person {
			class = d.classOf(entry.GetEqualFoldAttributeValues(d.cfg.Attribute))
		}
	}
	return class, nil
}

// classOf reads the values of the attribute: whoever is something else, too, is no
// person.
func (d *Directory) classOf(values []string) Class {
	for _, c := range []struct {
		class Class
		of    []string
	}{{Function, d.cfg.Function}, {List, d.cfg.List}, {Service, d.cfg.Service}, {Person, d.cfg.Person}} {
		if slices.ContainsFunc(values, func(v string) bool {
			return slices.ContainsFunc(c.of, func(want string) bool { return strings.EqualFold(v, want) })
		}) {
			return c.class
		}
	}
	return Other
}

// Run answers questions until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	return mailbox.Answer(ctx, d.bus, mailbox.Directory, "policy", abreast, func(ctx context.Context, address string) authz.Standing {
		class, err := d.Class(ctx, address)
		if err != nil {
			return authz.StandingDoubt
		}
		return class.Standing()
	})
}
