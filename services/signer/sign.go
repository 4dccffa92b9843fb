package signer

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/postrider/postrider/shared/mail"
)

// oversigned are the fields named in h= once more than they occur, so that
// none can be added afterwards (RFC 6376 §8.15).
var oversigned = []string{
	"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post",
}

// signatureLife is x= minus t=: a signed message cannot be replayed for ever.
// It is longer than any lifetime in the queue.
const signatureLife = 14 * 24 * time.Hour

// Sign reads a content and returns its DKIM-Signature fields, one per key,
// complete with CRLF, to be put before it.
func Sign(content io.Reader, keys []*Key) (string, error) {
	start, header, err := readHeader(content)
	if err != nil {
		return "", err
	}
	now := time.Now()
	signers := make([]*dkim.Signer, 0, len(keys))
	writers := make([]io.Writer, 0, len(keys))
	closeAll := func() {
		for _, s := range signers {
			s.Close()
		}
	}
	for _, k := range keys {
		s, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: k.Domain, Selector: k.Selector, Signer: k.private, Hash: k.hash,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
			HeaderKeys: headerKeys(header), Expiration: now.Add(signatureLife),
		})
		if err != nil {
			closeAll()
			return "", fmt.Errorf("prepare signature %s: %w", k, err)
		}
		signers = append(signers, s)
		writers = append(writers, s)
	}
	all := io.MultiWriter(writers...)
	if _, err := all.Write(start); err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{all}, struct{ io.Reader }{content}, make([]byte, 64<<10))
		if err != nil {
			closeAll()
			return "", fmt.Errorf("read content: %w", err)
		}
	} else {
		closeAll()
		return "", fmt.Errorf("read header: %w", err)
	}
	var fields strings.Builder
	for i, s := range signers {
		if err := s.Close(); err != nil {
			return "", fmt.Errorf("sign with %s: %w", keys[i], err)
		}
		fields.WriteString(s.Signature())
	}
	return fields.String(), nil
}

// readHeader reads the beginning of a content until its header section ends.
func readHeader(content io.Reader) (start []byte, h mail.Header, err error) {
	buf := make([]byte, 0, 16<<10)
	for {
		if len(buf) == cap(buf) {
			if cap(buf) > 2*mail.MaxHeader {
				return nil, nil, errors.New("header section does not end")
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := content.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		final := errors.Is(err, io.EOF)
		if err != nil && !final {
			return nil, nil, fmt.Errorf("read header: %w", err)
		}
		h, _, err := mail.SplitHeader(buf, final)
		if err == nil {
			return buf, h, nil
		}
	}
}

// headerKeys names every oversigned field as often as it occurs, and once more.
func headerKeys(h mail.Header) []string {
	count := map[string]int{}
	for f := range h.Fields() {
		count[strings.ToLower(f.Name)]++
	}
	var keys []string
	for _, name := range oversigned {
		for range count[strings.ToLower(name)] + 1 {
			keys = append(keys, name)
		}
	}
	return keys
}
