package books_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queuetest"
)

// reply is one message of an answer.
type reply struct {
	kind, data string
	header     nats.Header
}

// TestAnswer: an answer is complete, or it is an error.
func TestAnswer(t *testing.T) {
	bus := queuetest.Start(t)
	var answer []reply
	sub, err := bus.NC.Subscribe(books.QuestionStatus.Subject(), func(m *nats.Msg) {
		for _, r := range answer {
			header := nats.Header{books.HeaderKind: []string{r.kind}}
			for k, v := range r.header {
				header[k] = v
			}
			bus.NC.PublishMsg(&nats.Msg{Subject: m.Reply, Data: []byte(r.data), Header: header})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	end := func(parts string) reply {
		return reply{kind: books.KindEnd, header: nats.Header{books.HeaderParts: []string{parts}}}
	}
	fail := func(code, text string) reply {
		return reply{kind: books.KindError, data: text, header: nats.Header{books.HeaderCode: []string{code}}}
	}
	for _, c := range []struct {
		name   string
		answer []reply
		want   error  // nil with text: any error
		text   string // in the error
	}{
		{"complete", []reply{{kind: books.KindPart, data: `{"seq": 7}`}, end("1")}, nil, ""},
		{"in pieces, after a while", []reply{{kind: books.KindWait}, {kind: books.KindPart, data: `{"se`}, {kind: books.KindWait}, {kind: books.KindPart, data: `q": 7}`}, end("2")}, nil, ""},
		{"a part is missing", []reply{{kind: books.KindPart, data: `{"seq": 7}`}, end("2")}, books.ErrUnreachable, "1 of 2 parts"},
		{"empty", []reply{end("0")}, books.ErrUnreachable, ""},
		{"two values", []reply{{kind: books.KindPart, data: `{} {}`}, end("1")}, books.ErrUnreachable, ""},
		{"not found", []reply{fail("not-found", "not found in the ledger: x")}, books.ErrNotFound, "ledger: x"},
		{"behind", []reply{fail("behind", "late")}, books.ErrBehind, "late"},
		{"breaks off with an error", []reply{{kind: books.KindPart, data: `{"seq": 7}`}, fail("behind", "late")}, books.ErrBehind, "late"},
		{"other error", []reply{fail("", "disk on fire")}, nil, "disk on fire"},
		{"of a later release", []reply{fail("novel", "something new")}, nil, "something new"},
		{"no JSON", []reply{{kind: books.KindPart, data: `seven`}, end("1")}, nil, "invalid character"},
		{"unknown kind", []reply{{kind: "telegram"}}, books.ErrUnreachable, "telegram"},
	} {
		answer = c.answer
		got, err := books.Client(bus).Status(t.Context())
		switch {
		case c.want == nil && c.text == "":
			if err != nil || got.Seq != 7 {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
		case err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text):
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
