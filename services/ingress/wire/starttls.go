package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// recordHandshake is the first octet of a TLS handshake record (RFC 8446 §5.1).
const recordHandshake = 0x16

// startTLS answers STARTTLS (RFC 3207). It always ends this conversation: with
// the next one on TLS, or with the socket.
func (c *Conn) startTLS() error {
	k := c.link
	switch {
	case k.listener.cfg.TLS == nil:
		return c.refuse(KindSyntax, replyNotImplemented, nil)
	case k.secure != nil:
		return c.refuse(KindSequence, replyTLSActive, nil)
	case k.in.Buffered() > 0:
		return c.refuseAndHangUp(KindInjection, replyInjection, nil, true)
	}
	k.out = append(k.out, "220 2.0.0 Ready to start TLS\r\n"...)
	if err := k.flush(); err != nil {
		return c.hangUp(false)
	}
	if err := k.shakeHands(); err != nil {
		c.over = true // RFC 3207 §4.1: nothing of this session is worth keeping
		return errOver
	}
	c.over = true
	c.next.Store(newConn(k, true))
	return errOver
}

// shakeHands puts TLS on the socket. On failure it has closed it.
func (k *link) shakeHands() error {
	cfg := &k.listener.cfg
	deadline := time.Now().Add(cfg.HandshakeTimeout)
	heard := &listening{Conn: k.raw}
	secure := tls.Server(heard, cfg.TLS)

	err := k.raw.SetWriteDeadline(deadline)
	if err == nil {
		err = errStopping
		if k.arm(deadline, true) {
			err = secure.Handshake()
		}
	}
	if err == nil {
		k.secure, k.conn = secure, secure
		k.in.Reset(k) // nothing said in clear survives (RFC 3207 §4.2)
		return nil
	}
	k.handshakeFailed(err, heard.octets == 0)
	return err
}

// handshakeFailed closes the socket. Only a client that evidently speaks no TLS
// on a port of implicit TLS gets a reply in clear: one that sent something
// else, or one that sent nothing because it waits for our greeting.
func (k *link) handshakeFailed(err error, silent bool) {
	r := Refusal{Kind: KindHandshake, Remote: k.remote, Local: k.raw.LocalAddr(), Err: err}
	var foreign tls.RecordHeaderError
	if k.listener.cfg.ImplicitTLS {
		switch {
		case errors.As(err, &foreign) && foreign.Conn != nil, silent && isTimeout(err):
			r.Kind, r.Reply = KindTLSMismatch, replyExpectsTLS
		}
		if k.listener.stopping.Load() {
			r.Kind, r.Reply = KindShutdown, smtp.Reply{}
		}
	}
	if reply := k.listener.tell(r); !reply.IsZero() {
		k.out = appendReply(k.out, reply)
	}
	k.hangUp(!r.Reply.IsZero())
}

// listening counts what a client said.
type listening struct {
	net.Conn
	octets int
}

func (h *listening) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.octets += n
	return n, err
}
