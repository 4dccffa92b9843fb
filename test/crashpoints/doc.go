//go:build crashpoints

// Package crashpoints kills each service of a relay at every point where it
// tells somebody something, and looks whether the mail comes out right.
//
// The services run as processes of their own over a nats-server with
// sync_interval: always. To the one under test strace is attached, once it is
// ready; it injects SIGKILL at the entry of the n-th write, send or sync call
// from then on, while one message with two recipients goes through: one that
// the MX takes, and one that it refuses with 550 at RCPT. The sender's mailbox
// is at the same MX. Then the service is started again, without injection, and
// the world must end like this:
//
//   - The client was told 250: exactly one copy for the good recipient, exactly
//     one report about the bad one, and books that say so.
//   - The client was told 4yz, or lost its connection: one of each, or none.
//   - A second copy is SMTP's own ambiguity: it may come only where delivery
//     was killed after the MX had seen the dot and before the books had the
//     reply. It has the same Message-ID, the books say possible_duplicate, and
//     it is counted apart.
//   - The books balance, and nothing is queued.
//
// n grows until the service survives the message. strace counts the calls of
// each thread by itself: with GOMAXPROCS=1 there are few, but not one, so that n
// samples the points rather than numbering them. Each point is therefore
// reported by what the process was about to write, and the distinct ones are
// counted.
//
// A killed worker's messages come again when their acknowledgement is overdue,
// after 20 s, and its partitions are free after 15 s. The test does not wait
// for that: it makes the server see both at once, while the service is dead.
//
//	go test -count=1 -tags crashpoints -v ./test/crashpoints                         some points of each service
//	go test -count=1 -tags crashpoints -timeout 2h -v ./test/crashpoints -rounds 5   all of them, five times
package crashpoints
