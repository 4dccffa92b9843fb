//go:build compose

package compose

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/smtptest"
)

// delivered is one message as the sink has it.
type delivered struct {
	smtptest.IndexEntry
	content []byte
}

// arrivals are all messages of the sink.
func (p *project) arrivals() []delivered {
	p.t.Helper()
	files := p.files("sink", "/data")
	var all []delivered
	for d := json.NewDecoder(bytes.NewReader(files[path.Join("data", smtptest.IndexFile)])); d.More(); {
		var one delivered
		if err := d.Decode(&one.IndexEntry); err != nil {
			p.t.Fatal(err)
		}
		one.content = files[path.Join("data", one.File)]
		all = append(all, one)
	}
	return all
}

// files copies files out of the container of a service; their names begin with
// the last element of the path.
func (p *project) files(service, from string) map[string][]byte {
	p.t.Helper()
	out, err := p.try(p.ctx, nil, "docker", "cp", p.containers(service)[0]+":"+from, "-")
	if err != nil {
		p.t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(strings.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			p.t.Fatal(err)
		}
	}
}

// expectSigned verifies both signatures of each message with the records that
// the signer says to publish.
func (p *project) expectSigned(all []delivered) {
	p.t.Helper()
	records := p.dkimRecords()
	for _, d := range all {
		verifications, err := dkim.VerifyWithOptions(bytes.NewReader(d.content), &dkim.VerifyOptions{
			LookupTXT: func(name string) ([]string, error) {
				if r, ok := records[name]; ok {
					return []string{r}, nil
				}
				return nil, errors.New("no record " + name)
			},
		})
		if err != nil || len(verifications) != 2 {
			p.t.Errorf("%s has %d signatures, want 2, %v", d.Subject, len(verifications), err)
			continue
		}
		for _, v := range verifications {
			if v.Err != nil || v.Domain != "smtp-relay.campus.test" {
				p.t.Errorf("%s: signature of %s: %v", d.Subject, v.Domain, v.Err)
			}
		}
	}
}

// dkimRecords are the records that the signer wrote beside the keys it made.
func (p *project) dkimRecords() map[string]string {
	p.t.Helper()
	records := map[string]string{}
	for line := range strings.Lines(string(p.files("signer", "/data/dkim/dns.txt")["dns.txt"])) {
		name, value, ok := strings.Cut(line, ". IN TXT ")
		if !ok {
			p.t.Fatalf("record %q", line)
		}
		records[name] = strings.NewReplacer(`" "`, "", `"`, "", "\n", "").Replace(value)
	}
	return records
}

// copies counts mail by recipient, and reports by the recipient they are about.
func copies(all []delivered) (mail, reports map[string]int) {
	mail, reports = map[string]int{}, map[string]int{}
	for _, d := range all {
		about, report := strings.CutPrefix(d.Subject, "Undelivered mail: ")
		if report && d.ReversePath == "" && len(d.Recipients) == 1 && d.Recipients[0] == sender {
			reports[about]++
			continue
		}
		for _, r := range d.Recipients {
			mail[r]++
		}
	}
	return mail, reports
}

// expectArrived checks that every good recipient of a batch has its mail and
// every bad one a report, each once. Those of whom the books say so may have it
// twice.
func (b *batch) expectArrived(p *project, twice map[string]bool) {
	p.t.Helper()
	all := p.arrivals()
	p.expectSigned(all)
	mail, reports := copies(all)
	again := 0
	for i := range messages {
		to := b.recipients(i)
		for n, r := range to {
			wantMail, wantReports := 1, 0
			if n == 1 && b.isBad(i) {
				wantMail, wantReports = 0, 1
			}
			if got := mail[r]; got == 2 && wantMail == 1 && twice[r] {
				again++
			} else if got != wantMail {
				trace, _ := p.postrider("trace", r, "-o", "json")
				p.t.Errorf("%s has %d copies, want %d; possible duplicate: %t\n%s", r, got, wantMail, twice[r], trace)
			}
			if got := reports[r]; got != wantReports {
				p.t.Errorf("%d reports about %s, want %d", got, r, wantReports)
			}
		}
	}
	if again > 0 {
		p.t.Logf("%d recipients have a second copy, and the books call them possible duplicates", again)
	}
}

// possibleDuplicates are the recipients that the books call so.
func (p *project) possibleDuplicates() map[string]bool {
	p.t.Helper()
	out, exit := p.postrider("ledger", "export", "-o", "jsonl")
	if exit != 0 {
		p.t.Fatalf("ledger export exits %d", exit)
	}
	twice := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var row books.Row
		if err := d.Decode(&row); err != nil {
			p.t.Fatal(err)
		}
		if row.PossibleDuplicate {
			twice[row.Recipient] = true
		}
	}
	return twice
}
