package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
)

func TestDeviceCard(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	d := &registry.Device{
		Name: "prn.campus.test", Owner: "chem", Addresses: registry.MustAddresses("10.2.3.4", "10.2.4.0/28"), Senders: []string{"scan@campus.test"},
		Scope: registry.ScopeAnywhere, Class: "scan", State: registry.StateSuspended,
		Suspension: &registry.Suspension{Cause: "reports", At: now.AddDate(0, 0, -2), NeedsTicket: true},
		Limits:     registry.Limits{MessagesPerHour: 60}, Quirks: registry.Quirks{From: "scan@campus.test"},
	}
	s := registry.NewSnapshot(0, registry.Entries{}).With(1, []registry.Item{
		d, &registry.Owner{Name: "chem", Contacts: []string{"it@chem.campus.test"}, External: true},
		&registry.Credential{Name: "prn", Device: d.Name, Secrets: []registry.Secret{{}, {}}},
		&registry.Review{Device: d.Name, Findings: []registry.Finding{{Check: "spf", About: "campus.test", Text: "does not include us"}, {Check: "mail-server", OK: true, Text: "no mail server answers"}}},
		&registry.Resolution{Device: d.Name, Confirmed: map[netip.Addr]time.Time{netip.MustParseAddr("10.2.3.4"): now.Add(-3 * time.Hour)}},
	}, nil)
	c := newDeviceCard(s, d)
	c.Use = &books.Use{Device: d.Name, Last: now.Add(-time.Hour), Addresses: map[netip.Addr]time.Time{netip.MustParseAddr("10.2.4.3"): now.Add(-time.Hour)}}
	var out bytes.Buffer
	if err := c.print(&out, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"suspended since 2026-03-08: reports; it takes a ticket", "chem, external", "it@chem.campus.test", "10.2.3.4, name confirmed 3h00m ago, never used",
		"10.2.4.0/28, last used 1h00m ago", "credential prn, two secrets: it is being rotated", "60 messages an hour", "From becomes scan@campus.test",
		"x spf campus.test: does not include us", "+ mail-server: no mail server answers", "1h00m ago\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not shown: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
