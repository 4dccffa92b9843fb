package authority

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/shared/config"
)

// kdcs are the servers of a realm. The one that answered last is asked first.
type kdcs struct {
	realm    string
	listed   []string // host:port; empty: as the DNS says
	resolver *net.Resolver
	last     atomic.Pointer[string]
}

const (
	kdcPort = "88"
	// maxKDCReply is in octets: a ticket with all the groups that Active Directory
	// puts into it has at most 64 KiB.
	maxKDCReply = 128 << 10
)

func newKDCs(cfg config.Kerberos, resolver string) *kdcs {
	k := &kdcs{realm: cfg.Realm, resolver: net.DefaultResolver}
	if resolver != "" {
		k.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, resolver)
		}}
	}
	for _, server := range cfg.KDC {
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, kdcPort)
		}
		k.listed = append(k.listed, server)
	}
	return k
}

// ask sends a request to one KDC after the other until one answers. Each has its
// part of the time that is left.
func (k *kdcs) ask(ctx context.Context, request []byte) ([]byte, error) {
	servers, err := k.servers(ctx)
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, server := range servers {
		until := time.Now().Add(patience)
		if deadline, ok := ctx.Deadline(); ok {
			until = time.Now().Add(time.Until(deadline) / time.Duration(len(servers)-i))
		}
		answer, err := k.exchange(ctx, server, until, request)
		if err == nil {
			k.last.Store(&server)
			return answer, nil
		}
		failed = append(failed, fmt.Errorf("ask KDC %s: %w", server, err))
	}
	return nil, errors.Join(failed...)
}

// servers are those to ask, in order.
func (k *kdcs) servers(ctx context.Context) ([]string, error) {
	all := k.listed
	if len(all) == 0 {
		_, found, err := k.resolver.LookupSRV(ctx, "kerberos", "tcp", k.realm) // RFC 4120 §7.2.3.2
		if err != nil {
			return nil, fmt.Errorf("find KDC: %w", err)
		}
		for _, s := range found {
			all = append(all, net.JoinHostPort(s.Target, strconv.Itoa(int(s.Port))))
		}
	}
	if last := k.last.Load(); last != nil {
		if i := slices.Index(all, *last); i > 0 {
			all = slices.Insert(slices.Delete(slices.Clone(all), i, i+1), 0, *last)
		}
	}
	return all, nil
}

// exchange is one request and its answer over TCP (RFC 4120 §7.2.2).
func (k *kdcs) exchange(ctx context.Context, server string, until time.Time, request []byte) ([]byte, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	conn, err := (&net.Dialer{Resolver: k.resolver}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)
	if _, err := conn.Write(framed); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxKDCReply {
		return nil, fmt.Errorf("an answer of %d octets", n)
	}
	answer := make([]byte, n)
	_, err = io.ReadFull(conn, answer)
	return answer, err
}
