package smtpclient

import (
	"fmt"

	"github.com/postrider/postrider/shared/smtp"
)

// The envelope is a row of steps: RSET where the last transaction was left
// open, MAIL, RCPT for each recipient, and DATA unless BDAT follows. With
// PIPELINING a group is as many steps as fit the window, otherwise it is one.
const (
	stepRset = iota
	stepMail
	stepRcpt // of recipient 0; the others follow
)

func (t *transaction) stepData() int { return stepRcpt + len(t.m.Recipients) }

// envelope takes all the steps. Refusals are left with the recipients; an
// error means that the dialogue cannot go on.
func (t *transaction) envelope() error {
	step, end := stepMail, t.stepData()+1
	if t.dirty {
		step = stepRset
	}
	if t.res.Chunked {
		end--
	}
	t.transactions++
	for step < end {
		first := step
		for step < end && (step == first || t.ext.Pipelining && t.out.Buffered() < window) {
			t.write(step)
			step++
		}
		if err := t.flush("the envelope"); err != nil {
			return err
		}
		for ; first < step; first++ {
			if err := t.readStep(first); err != nil {
				return err
			}
		}
		if t.hopeless(step) {
			return nil
		}
	}
	return nil
}

// hopeless reports that no step from here on can help a recipient.
func (t *transaction) hopeless(step int) bool {
	return step > stepMail && !t.dirty || step == t.stepData() && t.accepted == 0
}

func (t *transaction) write(step int) {
	line := t.out.AvailableBuffer()
	switch {
	case step == stepRset:
		line = append(line, "RSET\r\n"...)
	case step == stepMail:
		line = appendMail(line, t.m, &t.ext)
	case step == t.stepData():
		line = append(line, "DATA\r\n"...)
	case t.skipped(step - stepRcpt):
		return
	default:
		line = appendRcpt(line, t.m, step-stepRcpt, &t.ext)
	}
	t.out.Write(line)
}

func (t *transaction) skipped(i int) bool { return t.skip != nil && t.skip[i] }

func (t *transaction) readStep(step int) error {
	switch {
	case step == stepRset:
		return t.readRset()
	case step == stepMail:
		return t.readMail()
	case step == t.stepData():
		return t.readData()
	case t.skipped(step - stepRcpt):
		return nil
	}
	return t.readRcpt(step - stepRcpt)
}

func (t *transaction) readRset() error {
	code, err := t.read("RSET", t.cfg.Timeouts.Command)
	if err != nil {
		return err
	}
	t.replies++
	if code/100 != 2 {
		return fmt.Errorf("read reply of %s to RSET: %w: code %d", t.remote, ErrProtocol, code)
	}
	t.dirty = false
	return nil
}

// readMail: what refuses the sender refuses every recipient.
func (t *transaction) readMail() error {
	verdict, err := t.verdict("MAIL", 2)
	if err != nil {
		return err
	}
	if verdict != nil {
		t.settle(0, verdict)
		return nil
	}
	t.dirty = true
	return nil
}

// readRcpt: after a refused MAIL the reply is read and means nothing.
func (t *transaction) readRcpt(i int) error {
	verdict, err := t.verdict("RCPT", 2)
	if err != nil {
		return err
	}
	r := &t.res.Recipients[i]
	switch {
	case r.Err != nil:
	case verdict != nil:
		*r = RecipientResult{verdict.Reply, verdict}
	default:
		t.accepted++
	}
	return nil
}

// readData: a 354 is remembered even where no recipient was accepted, because
// the server then waits for a dot.
func (t *transaction) readData() error {
	verdict, err := t.verdict("DATA", 3)
	if err != nil {
		return err
	}
	t.waiting = verdict == nil
	if verdict != nil {
		t.settle(0, verdict)
		t.accepted = 0
	}
	return nil
}

// verdict reads a reply that should be of the class, or else refuse.
func (t *transaction) verdict(verb string, class int) (*smtp.Error, error) {
	d := t.cfg.Timeouts.Command
	if verb == "DATA" {
		d = t.cfg.Timeouts.Data
	}
	code, err := t.read(verb, d)
	if err != nil {
		return nil, err
	}
	t.replies++
	if code/100 == 4 || code/100 == 5 {
		return t.refusal(verb), nil
	}
	return nil, t.want(class, code, verb)
}
