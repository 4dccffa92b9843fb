// Package directory is the way to a directory (RFC 4511): its servers in turn, TLS
// by which they prove their names, connections that are kept and used again, and
// the entry that may search. What is asked, and what an answer means, is the
// caller's.
//
// Guarantees: no password goes to another machine in clear. A connection is for one
// question at a time. Every wait ends with its context.
package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/postrider/postrider/shared/config"
)

// Client asks the servers of one directory.
type Client struct {
	cfg     config.LDAP
	key     string // of cfg, for errors
	servers []server
	tls     *tls.Config
	idle    chan *Conn
}

// server is where a directory listens.
type server struct {
	address, host string
	implicit      bool // TLS from the start
}

// maxIdle is how many connections are kept.
const maxIdle = 4

// Open makes the client of a directory, and asks nobody. key is where its
// configuration is, as "auth.ldap".
func Open(cfg config.LDAP, key string) (*Client, error) {
	l := &Client{cfg: cfg, key: key, tls: &tls.Config{MinVersion: tls.VersionTLS12}, idle: make(chan *Conn, maxIdle)}
	for _, text := range cfg.Servers() {
		u, err := url.Parse(text)
		if err != nil {
			return nil, errors.New(key + ".url is not a URL") // which may hold a password
		}
		s := server{host: u.Hostname(), implicit: u.Scheme == "ldaps"}
		port := u.Port()
		switch {
		case port != "":
		case s.implicit:
			port = "636"
		default:
			port = "389"
		}
		s.address = net.JoinHostPort(s.host, port)
		l.servers = append(l.servers, s)
	}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("open %s.ca: %w", key, err)
		}
		l.tls.RootCAs = x509.NewCertPool()
		if !l.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s.ca: %s has no certificate in PEM", key, cfg.CA)
		}
	}
	if cfg.BindDN != "" {
		if _, err := l.bindPassword(); err != nil {
			return nil, err
		}
	}
	if cfg.UserDN == "" {
		if _, err := ldap.CompileFilter(Filter(cfg.Filter, "x")); err != nil {
			return nil, fmt.Errorf("%s.filter: %w", key, err)
		}
	}
	return l, nil
}

// Filter puts a value into a filter, and nothing but a value (RFC 4515 §3).
func Filter(filter, value string) string {
	return strings.ReplaceAll(filter, "%s", ldap.EscapeFilter(value))
}

// Do asks on a connection that is idle. One that broke meanwhile says nothing about
// the directory; a fresh one does. The error is about connecting only.
func (l *Client) Do(ctx context.Context, ask func(*Conn) (broken bool)) error {
	for {
		conn, fresh, err := l.connection(ctx)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		release := conn.bound(ctx)
		broken := ask(conn)
		release()
		if !broken {
			l.keep(conn)
			return nil
		}
		conn.Close()
		if fresh {
			return nil
		}
	}
}

// bindPassword is that of the entry that searches. An empty one would bind
// nobody, and look like a success.
func (l *Client) bindPassword() (string, error) {
	text, err := os.ReadFile(l.cfg.BindPasswordFile)
	if err != nil {
		return "", fmt.Errorf("open %s.bind_password_file: %w", l.key, err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s.bind_password_file: %s is empty", l.key, l.cfg.BindPasswordFile)
	}
	return password, nil
}

// BindSearcher makes the connection that of the entry that may search: the last
// question may have left it to a user.
func (c *Conn) BindSearcher() error {
	cfg := c.client.cfg
	if cfg.BindDN == "" {
		return c.UnauthenticatedBind("") // anonymous, RFC 4513 §5.1.1
	}
	password, err := c.client.bindPassword()
	if err != nil {
		return err
	}
	return c.Bind(cfg.BindDN, password)
}

// Down reports an error of a question that says more about the server, or the way
// to it, than about what was asked.
func Down(err error) bool {
	if ldap.IsErrorAnyOf(err, ldap.ErrorNetwork, ldap.ErrorUnexpectedMessage, ldap.ErrorUnexpectedResponse,
		ldap.LDAPResultBusy, ldap.LDAPResultUnavailable) {
		return true
	}
	var e *ldap.Error
	return err != nil && !errors.As(err, &e) // the library's own: the connection is of no use
}
