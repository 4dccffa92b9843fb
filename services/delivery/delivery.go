// Package delivery is the MTA of the relay: it takes one job for each
// destination of a message and brings it to the next hop.
//
// # Name
//
// delivery
//
// # Consumes
//
// DELIVER, subjects deliver.ready.<lane>.<partition>: event.Job. A destination
// belongs to one of queue.Partitions; the partitions are shared out among the
// live workers by the bucket "workers" (assign.go, membership.go). MAIL and BODY:
// the content, read as it is sent. The DNS.
//
// # Produces
//
//   - LEDGER delivery.delivered, delivery.delayed, delivery.failed: for every
//     attempt, who ended how, with the reply, the host and the encryption.
//   - DELIVER, subject deliver.later.…: the job of the next attempt, as a
//     schedule. It fires into deliver.ready.….
//   - REPORT failed, expired: event.Failure, for recipients that no attempt
//     can help.
//
// # Guarantees
//
//   - What follows from an attempt is stored before its job is acknowledged:
//     records first, then the events they announce. Storing it twice is
//     storing it once. A job that comes back is not sent again to those whom
//     this process (memory.go) or the last hour of LEDGER (subtract.go) knows to
//     be settled. Nothing is sent before LEDGER was read to its end.
//   - Only a reply of the destination, or a definite answer of the DNS, ends a
//     recipient's hope. Every trouble of our own delays.
//   - An attempt that ended between the dot and its reply is repeated later,
//     and a delivery after it is marked possible_duplicate. So is one of a job
//     that the bus delivered again after its worker died.
//   - A worker that the others may take for gone does not send the dot.
//   - A destination under delivery.require_tls is never served in clear. The
//     level dane has no implementation in this release: its mail waits.
//   - Not more than delivery.connections jobs of a destination run at a time,
//     over all workers, but for the moment in which a partition changes hands.
//     A job that finds its destination busy gets an appointment as a schedule, so
//     that a slow destination takes no place from others (limit.go).
//   - No connection to a listener of this relay, by address and port, nor to
//     an MX that is not preferred to our own name.
//
// # Failures
//
// The bus is down: transactions are broken off before the dot once the
// membership lapsed; nothing is lost, nothing counts as an attempt. Content is
// gone: recorded as delayed with the reason, again and again until the lifetime
// ends. Killed: the jobs under way are delivered again after a minute at most.
//
// # Limits
//
// A certificate under verify is checked against the name of the MX, which
// comes from the DNS: without DNSSEC, who forges the DNS names an MX of his own.
// Routes have no such gap. No MTA-STS, no DANE, no TLS-RPT; no learning from
// reply texts. What was settled more than an hour ago by another process is
// not known here. A recipient refused with 4yz by one MX is not tried on the next.
// Credentials in files are read at start.
//
// # Standards
//
// RFC 5321 (§3.6, §4.1.3, §4.5.3, §4.5.4, §5, §6.3), RFC 7505 (null MX), RFC 7435
// and RFC 3207 (TLS), RFC 8314, RFC 2033 (LMTP), RFC 9422 (LIMITS), RFC 3463.
package delivery

import (
	"context"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// Service is delivery as a service of the relay.
var Service = service.Service{Name: "delivery", Run: Run}

// Run delivers until ctx ends. Transactions under way then have service.Grace
// to end; what is not before its dot by then is handed back.
func Run(ctx context.Context, env *service.Env) error {
	w, err := newWorker(env, settings{ttl: queue.WorkerTTL, grace: service.Grace})
	if err != nil {
		return err
	}
	return w.run(ctx, env.Instance, env.Ready)
}
