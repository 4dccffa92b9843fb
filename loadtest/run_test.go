package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/loadtest/check"
	"github.com/postrider/postrider/loadtest/journal"
)

const (
	rowDelivered = `{"message_id":"<t@load.test>","recipient":"u1+t@load.test","state":"delivered"}` + "\n"
	rowQueued    = `{"message_id":"<t@load.test>","recipient":"u1+t@load.test","state":"queued"}` + "\n"
	rowPhantom   = `{"message_id":"<t@load.test>","recipient":"u9+t@load.test","state":"delivered"}` + "\n"
	rowReport    = `{"message_id":"<ndr@relay.test>","recipient":"device@sender.test","state":"queued"}` + "\n"
)

// TestSettle lets the ledger change from look to look; the last text stays.
// An empty text is an export that fails.
func TestSettle(t *testing.T) {
	for name, tt := range map[string]struct {
		looks   []string
		allow   bool
		verdict check.Verdict
		after   time.Duration // when the wait ended
		fails   error
	}{
		"at rest":              {looks: []string{rowDelivered}, after: 2 * time.Second},
		"queued at first":      {looks: []string{rowQueued, rowQueued, rowDelivered}, after: 4 * time.Second},
		"report on its way":    {looks: []string{rowDelivered + rowReport, rowDelivered}, after: 3 * time.Second},
		"phantom later":        {looks: []string{rowDelivered, rowDelivered, rowDelivered + rowPhantom}, verdict: check.Violated, after: 4 * time.Second},
		"recorded late":        {looks: []string{rowReport, "\n", "\n", "\n", "\n", rowDelivered}, after: 7 * time.Second},
		"lost":                 {looks: []string{"\n"}, verdict: check.Violated, after: time.Minute},
		"down for a while":     {looks: []string{rowDelivered, "", "", rowDelivered}, after: 5 * time.Second},
		"queued for ever":      {looks: []string{rowQueued}, verdict: check.NotQuiescent, after: time.Minute},
		"queued, allowed":      {looks: []string{rowQueued}, allow: true, after: 2 * time.Second},
		"other mail for ever":  {looks: []string{rowDelivered + rowReport}, after: time.Minute},
		"down for ever":        {looks: []string{""}, fails: errExport, after: time.Minute},
		"unreadable for ever":  {looks: []string{`{"cut":`}, fails: journal.ErrUnusable, after: time.Minute},
		"down after some look": {looks: []string{rowQueued, ""}, fails: errExport, after: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "client.jsonl"),
				`{"token":"t","phase":"sent","message_id":"<t@load.test>","sender":"device@sender.test","recipients":[{"address":"u1+t@load.test","rcpt_reply":250}],"body_sha256":"d"}`+"\n"+
					`{"token":"t","phase":"reply","code":250}`+"\n")
			write(t, filepath.Join(dir, "sink.jsonl"),
				`{"kind":"copy","token":"t","message_id":"<t@load.test>","recipients":["u1+t@load.test"],"body_sha256":"d","acknowledged":true}`+"\n{\"cut")
			synctest.Test(t, func(t *testing.T) {
				look := 0
				r := &trial{dir: dir, patience: time.Minute, poll: time.Second}
				r.tolerance.AllowQueued = tt.allow
				r.export = func(context.Context) error {
					text := tt.looks[min(look, len(tt.looks)-1)]
					look++
					if text == "" {
						return errExport
					}
					return os.WriteFile(r.path("ledger"), []byte(text), 0o600)
				}
				start := time.Now()
				result, err := r.settle(t.Context())
				if result.Verdict != tt.verdict && tt.fails == nil || !errors.Is(err, tt.fails) || time.Since(start) != tt.after {
					t.Errorf("%v, %v after %v; want %v, %v after %v\n%+v", result.Verdict, err, time.Since(start), tt.verdict, tt.fails, tt.after, result)
				}
			})
		})
	}
}

var errExport = errors.New("unreachable")

func TestSettleInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r := &trial{patience: time.Minute, poll: time.Second, export: func(context.Context) error { return errExport }}
		if _, err := r.settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
