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
// live workers by the bucket "workers" (assign.go, membership.go). The bucket
// "served" tells who serves a partition, or did and ended in doubt (rota.go,
// tenure.go). The settings' epoch. LEDGER, and the ledger service for what is
// older than an hour (subtract.go). The bucket "holds": what people want held. MAIL and BODY: the content, read as it is
// sent. The DNS.
//
// # Produces
//
//   - LEDGER delivery.delivered, delivery.delayed, delivery.failed: for every
//     attempt, who ended how, with the reply, the host and the encryption.
//   - DELIVER, subject deliver.later.…: the job of the next attempt, as a
//     schedule. It fires into deliver.ready.….
//   - REPORT failed, expired: event.Failure, for recipients that no attempt
//     can help.
//   - HELD, and LEDGER delivery.held: jobs that people want held (hold.go).
//
// # Guarantees
//
//   - What follows from an attempt is stored before its job is acknowledged:
//     records first, then the events they announce. Storing it twice is
//     storing it once. Each run of an attempt has records of its own, and one
//     that follows a run which failed for others counts as the next attempt:
//     what is recognised as stored is never what another run was told.
//   - A job that comes back is not sent again to those whom this process
//     (memory.go), LEDGER or, for older messages, the ledger service knows to be
//     settled (subtract.go). Nothing is sent before LEDGER was read to its end
//     since the last connect, nor while it is behind its mark; an older job waits
//     for an answer. None of that is an attempt. A failure is an end, too: its
//     report is due.
//   - Jobs of a drive lower than that under which recovery drove a recipient
//     last are dropped for that recipient, whoever had them.
//   - What was decided and could not be stored is never forgotten by the process
//     that knows it, and stored before a partition is handed over.
//   - A second copy can be sent in these cases only, and then its record says
//     possible_duplicate: an attempt ended between the dot and its reply; a worker
//     died with the job in hand, as the bus tells by delivering it again; a worker
//     died together with the bus, which forgets the deliveries of its last
//     100 ms: the first jobs of a lane, as many as a worker may have in hand, are
//     in doubt then; recovery drove what such a worker may have had. Where
//     workers ended cleanly there is no doubt (tenure.go).
//   - Two living workers do not handle one job: a job that the former worker of a
//     partition may have in hand, because the bus delivers it again, because a
//     schedule fired twice, or because a bus that was killed forgot, waits until
//     that worker has finished. Within a worker the memory holds copies apart.
//   - A worker that the others may take for gone does not send the dot: it is
//     asked before the last octets, and what a peer does not read by its lapse
//     stays here. The bus's deadline for a job is longer than a membership
//     (guard.go).
//   - A new epoch is confirmed when everything that was taken before is finished
//     or handed back: what is then in no stream and has no end is in nobody's
//     hands.
//   - A consumer or a stream that vanishes is no end of the work: it is made
//     again. A derived stream that is made anew never repeats a sequence, so that
//     the late acknowledgement of a job that is gone hits no other.
//   - What a holding covers (queue.Holdings) is moved to HELD in place of an
//     attempt, once the holding has come here, which takes well under a second
//     while the bus answers. Attempts under way go on. Moving it twice is moving
//     it once, whoever decided about it in between.
//   - Only a reply of the destination, or a definite answer of the DNS, ends a
//     recipient's hope. Every trouble of our own delays.
//   - A destination under delivery.require_tls is never served in clear, nor is
//     health data (Job.PHI) beyond the hosted domains: it goes over TLS with a
//     certificate that verifies, or waits until its lifetime ends. The
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
// membership lapsed; nothing is lost, nothing counts as an attempt. LEDGER was
// restored from an earlier copy, or is gone: nothing is sent until a person has
// confirmed `postrider ledger recover --plan`. The ledger service is down: only
// jobs of older messages wait, as schedules that hold up nobody. Content is gone:
// recorded as delayed with the reason, again and again until the lifetime ends.
// Killed: the jobs under way are delivered again after a minute at most.
//
// # Limits
//
// A certificate under verify is checked against the name of the MX, which
// comes from the DNS: without DNSSEC, who forges the DNS names an MX of his own.
// Routes have no such gap. No MTA-STS, no DANE, no TLS-RPT; no learning from
// reply texts. A recipient refused with 4yz by one MX is not tried on the next.
// Credentials in files are read at start. After a bus was killed and lives on
// without its workers' deaths, the next handover of a partition may hold a few
// jobs back, and a later death may put a few in doubt that nobody had. What
// recovery drives more than a quarter of an hour after a worker's death is not in
// doubt, unless the record of a dot was lost with it. A process that is stopped
// in the instant between asking whether it may send the dot and the system call
// that does sends it when it goes on.
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
