package generate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func testConfig() Config {
	return Config{
		Server: "127.0.0.1:1", Messages: 500, Recipients: 4, Bad: 0.25, Connections: 2, Size: 10 << 10, Seed: 7,
		Domains: []string{"a.test", "a-much-longer-name.example.test"}, Sender: "scan@device.test", Run: "k7q2m9xa",
	}
}

func TestMessageIsExact(t *testing.T) {
	for _, size := range []int{600, 1023, 1024, 1025, 1026, 1027, 1028, 1100, 4096, 10 << 10, 100_001} {
		c := testConfig()
		c.Size = size
		p, err := newPlan(c.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			m := p.message(i, i%3, time.Now())
			wire := bytes.Join([][]byte{m.header, m.filler, m.tail}, nil)
			stuffed, ok := bytes.CutSuffix(wire, []byte("\r\n.\r\n"))
			if !ok {
				t.Fatal("no dot at the end")
			}
			var plain []byte
			for line := range bytes.Lines(append(stuffed, "\r\n"...)) {
				if !bytes.HasSuffix(line, []byte("\r\n")) || len(line) > 1000 {
					t.Fatalf("line %.60q of %d octets", line, len(line))
				}
				plain = append(plain, bytes.TrimPrefix(line, []byte("."))...)
			}
			if len(plain) != size || m.octets != size {
				t.Fatalf("message of %d octets, want %d", len(plain), size)
			}
			_, body, _ := bytes.Cut(plain, []byte("\r\n\r\n"))
			sum := sha256.Sum256(body)
			if m.bodySHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("size %d: digest is not of the body", size)
			}
			if !bytes.Contains(m.header, []byte("X-Ledger: "+m.token+"\r\n")) {
				t.Fatal("no token in the header")
			}
		}
	}
}

func TestPlanFollowsSeed(t *testing.T) {
	one, two := testConfig(), testConfig()
	two.Run, two.Connections = "another1", 9
	p, q := must(t, one), must(t, two)
	bad, all := 0, 0
	seen := map[string]bool{}
	for i := range one.Messages {
		a, b := p.message(i, 0, time.Now()), q.message(i, 0, time.Now())
		for n, recipient := range a.recipients {
			other := strings.ReplaceAll(b.recipients[n].Address, "another1", "k7q2m9xa")
			if recipient.Address != other || recipient.Bad != b.recipients[n].Bad {
				t.Fatalf("message %d: %q and %q", i, recipient.Address, other)
			}
			if recipient.Bad != strings.HasPrefix(recipient.Address, "550+") || seen[recipient.Address] {
				t.Fatalf("recipient %+v, seen %v", recipient, seen[recipient.Address])
			}
			seen[recipient.Address] = true
			all++
			if recipient.Bad {
				bad++
			}
		}
	}
	if share := float64(bad) / float64(all); share < 0.2 || share > 0.3 {
		t.Errorf("%d of %d recipients are bad, want about a quarter", bad, all)
	}
	again := p.message(3, 2, time.Now())
	if again.retryOf != "k7q2m9xa-0000003" || again.token != "k7q2m9xa-0000003-r2" || again.messageID != "<k7q2m9xa-0000003-r2@load.test>" {
		t.Errorf("retry is %+v", again)
	}
}

func must(t *testing.T, c Config) *plan {
	t.Helper()
	p, err := newPlan(c.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConfigRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"server":      func(c *Config) { c.Server = "" },
		"messages":    func(c *Config) { c.Messages = 0 },
		"recipients":  func(c *Config) { c.Recipients = 1001 },
		"bad":         func(c *Config) { c.Bad = 1.1 },
		"connections": func(c *Config) { c.Connections = 0 },
		"size":        func(c *Config) { c.Size = 0 },
		"small":       func(c *Config) { c.Size = 300 },
		"domain":      func(c *Config) { c.Domains = nil },
		"per":         func(c *Config) { c.PerConnection = -1 },
		"retries":     func(c *Config) { c.Retries = -1 },
		"injection":   func(c *Config) { c.Sender = "a@b>\r\nRSET" },
		"run":         func(c *Config) { c.Run = strings.Repeat("x", 60) },
	} {
		c := testConfig()
		change(&c)
		if _, err := New(c, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunsDiffer(t *testing.T) {
	if a, b := newRun(), newRun(); a == b || len(a) != 8 {
		t.Errorf("runs %q and %q", a, b)
	}
}
