//go:build crashpoints

package crashpoints

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// told is how a submission ended for its client.
type told string

const (
	accepted told = "250"
	refused  told = "4yz"
	lost     told = "connection lost"
)

// probe is a message whose addresses are of no other.
type probe struct {
	sender, good, bad string
	content           string
	told              told
	id                mail.QueueID // when accepted
}

// filler is what the lines of a large content consist of.
const filler = "x"

func (r *relay) newProbe() *probe {
	r.probes++
	tail := fmt.Sprintf("+p%04d@campus.test", r.probes)
	p := &probe{sender: "prn" + tail, good: "good" + tail, bad: "550-5.1.1" + tail, content: world.Message("crash")}
	if r.large {
		p.content += strings.Repeat(strings.Repeat(filler, 70)+"\r\n", 2*queue.MaxInline/72)
	}
	return p
}

// submit sends the message.
func (r *relay) submit(t *testing.T, p *probe) {
	t.Helper()
	id, err := r.TrySubmit(world.Submission{From: world.Printer, Sender: p.sender, To: []string{p.good, p.bad}, Content: p.content})
	var reply *textproto.Error
	switch {
	case err == nil:
		p.id, p.told = id, accepted
	case errors.As(err, &reply):
		p.told = refused
		if reply.Code/100 != 4 {
			t.Errorf("client was told %v", reply)
		}
	default:
		p.told = lost
	}
}

// await returns when the service is dead, or the message and its report are
// at the MX.
func (r *relay) await(t *testing.T, victim *program, p *probe) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx, stop := victim.context(ctx)
	defer stop()
	err := r.mx.WaitFor(ctx, func(smtptest.Counts) bool {
		return len(r.copies(p.good)) > 0 && len(r.copies(p.sender)) > 0
	})
	if err != nil && !victim.gone() {
		t.Errorf("%s did not come through: told %s, %d copies, %d reports", p.good, p.told, len(r.copies(p.good)), len(r.copies(p.sender)))
	}
}

// copies are the messages that the MX took for a recipient.
func (r *relay) copies(recipient string) (found []smtptest.Delivery) {
	for _, d := range r.mx.Deliveries() {
		for _, to := range d.Recipients {
			if to.String() == recipient {
				found = append(found, d)
			}
		}
	}
	return found
}
