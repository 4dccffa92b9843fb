package main

import (
	"io"
	"net/smtp"
	"testing"

	"github.com/postrider/postrider/shared/timetest"
)

// A rule on observe lets a message pass, and its name, the device and the
// message are on the list of whom it would stop.
func TestCheckObserved(t *testing.T) {
	r := start(t)
	c, err := smtp.Dial(r.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if err := c.Mail("prn@campus.test"); err != nil {
			t.Fatal(err)
		}
		if err := c.Rcpt("anna@example.test"); err != nil {
			t.Fatal(err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "Subject: nobody is said to have sent it\n\nA scan.\n"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil { // policy.from_field observes
			t.Fatal(err)
		}
	}
	var rows []map[string]any
	timetest.Await(t, "both are counted", func() bool {
		rows = r.list("check", "observed")
		return len(rows) == 1 && rows[0]["messages"] == 2.0
	})
	if o := rows[0]; o["rule"] != "from-field" || o["device"] != "prn.campus.test" || o["address"] != "127.0.0.1" || o["sender"] != "prn@campus.test" || o["queue_id"] == "" {
		t.Errorf("%v", o)
	}
	if rows := r.list("check", "observed", "fcrdns"); len(rows) != 0 {
		t.Errorf("fcrdns, which is off: %v", rows)
	}
	r.fails(2, "no rule is called spam", "check", "observed", "spam")
}
