package signer

import (
	"fmt"
	"io"
	"slices"
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
// complete with CRLF, to be put before it. It holds the header section in
// memory, never the body.
func Sign(content io.Reader, keys []*Key) (string, error) {
	start, header, body, err := mail.ReadHeader(content, 2*mail.MaxHeader) // with the fields we put before
	if err != nil {
		return "", err
	}
	var signers signers
	defer signers.Close()
	expires := time.Now().Add(signatureLife)
	names := headerKeys(header)
	for _, k := range keys {
		s, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: k.Domain, Selector: k.Selector, Signer: k.private, Hash: k.hash,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
			HeaderKeys: names, Expiration: expires,
		})
		if err != nil {
			return "", fmt.Errorf("prepare signature %s: %w", k, err)
		}
		signers = append(signers, s)
	}
	if body == len(header) { // no empty line, which ends the header for the signers
		start = slices.Concat(header, []byte("\r\n"), start[body:])
	}
	if _, err := signers.Write(start); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	if _, err := io.Copy(signers, content); err != nil {
		return "", fmt.Errorf("read content: %w", err)
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

// signers take the same content side by side.
type signers []*dkim.Signer

func (all signers) Write(p []byte) (int, error) {
	for _, s := range all {
		if _, err := s.Write(p); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close ends those that are still at work; the others ignore it.
func (all signers) Close() {
	for _, s := range all {
		s.Close()
	}
}

// maxNamed is how often h= names one field at most. A well-formed message has
// each of the oversigned ones once (RFC 5322 §3.6); one with thousands must not
// cost time quadratic in them, nor make h= a line that is too long (998 octets,
// RFC 5321 §4.5.3.1.6).
const maxNamed = 5

// headerKeys names every oversigned field as often as it occurs, and once more.
func headerKeys(h mail.Header) []string {
	count := map[string]int{}
	for f := range h.Fields() {
		count[strings.ToLower(f.Name)]++
	}
	var keys []string
	for _, name := range oversigned {
		for range min(count[strings.ToLower(name)]+1, maxNamed) {
			keys = append(keys, name)
		}
	}
	return keys
}
