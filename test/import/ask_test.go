//go:build estate

package estate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"sync"
	"testing"
	"time"
)

// The answers to a recipient: taken, or not.
const (
	yes = "yes"
	no  = "no"
)

// askers is how many senders ask at a time.
const askers = 16

// ask lets every sender ask a relay for its recipients.
func ask(t *testing.T, server string, senders []sender) [][]string {
	t.Helper()
	answers := make([][]string, len(senders))
	next := make(chan int)
	var group sync.WaitGroup
	for range askers {
		group.Go(func() {
			for i := range next {
				said, err := session(t.Context(), server, senders[i])
				if err != nil {
					t.Errorf("%s asks %s: %v", senders[i].address, server, err)
					said = make([]string, len(senders[i].to))
				}
				answers[i] = said
			}
		})
	}
	for i := range senders {
		next <- i
	}
	close(next)
	group.Wait()
	return answers
}

// session is one conversation: each recipient in a transaction of its own, which
// ends before DATA.
func session(ctx context.Context, server string, s sender) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr(s.address).AsSlice()}}
	conn, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := smtp.NewClient(conn, "relay.campus.test")
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if err := c.Hello("device.campus.test"); err != nil {
		return nil, fmt.Errorf("EHLO: %w", err)
	}
	var answers []string
	for _, to := range s.to {
		answer := no
		if c.Mail(s.from) == nil && c.Rcpt(to) == nil {
			answer = yes
		}
		answers = append(answers, answer)
		if err := c.Reset(); err != nil {
			return nil, fmt.Errorf("RSET: %w", err)
		}
	}
	return answers, c.Quit()
}
