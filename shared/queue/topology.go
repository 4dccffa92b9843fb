// Package queue is the bus as the services see it: which streams exist
// (topology.go), how an event is published once (publish.go), what a returned
// error does to it (worker.go), and where content lies (content.go).
//
// Guarantees: a Publish that returned nil is on stable storage (the server is
// refused unless it syncs every write, verify.go). A handler runs at least
// once per message; the same publish repeated within the duplicate window is
// stored once. Nothing is dropped: a message that cannot be handled stays in
// its stream and is tried again.
package queue

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// Shards is the number of MAIL and BODY streams. One stream stores one
// message after the other, each with its fsync; shards store side by side.
const Shards = 4

// Partitions is the number of delivery partitions: a destination belongs to
// one, and one worker serves a partition at a time. Limits per destination
// therefore hold over all workers.
const Partitions = 16

// Limits of single stream messages, in octets. JetStream refuses more than
// 32 MiB whatever is configured, and a server's max_payload is 1 MiB unless
// raised: chunks adapt to it.
const (
	MaxChunk  = 256 << 10
	MaxInline = 512 << 10
)

// registryLogAge is how long changes of the registry can be looked up.
const registryLogAge = 400 * 24 * time.Hour

// dedupeWindow is how long a repeated publish is recognised: JetStream's own
// default. The server holds every id for as long, most of its small objects;
// longer outages are covered by handlers that are idempotent.
const dedupeWindow = 2 * time.Minute

// Stream names.
const (
	StreamAdmitted = "ADMITTED"
	StreamDeliver  = "DELIVER"
	StreamReport   = "REPORT"
	StreamLedger   = "LEDGER"
	StreamRefused  = "REFUSED"
	StreamKeep     = "KEEP"
	// StreamRegistryLog is the history of the bucket registry.
	StreamRegistryLog = "REGISTRY_LOG"
	BucketRegistry    = "registry"
	BucketWorkers     = "workers"
	BucketSettings    = "settings"
	BucketServed      = "served"
	BucketBudgets     = "budgets"
	BucketHolds       = "holds"
	StreamHeld        = "HELD"
)

// WorkerTTL is how long a delivery worker counts as alive after its last sign
// of life in the workers bucket.
const WorkerTTL = 15 * time.Second

// MailStream is the name of MAIL shard n, BodyStream that of its chunks.
func MailStream(n int) string { return "MAIL_" + strconv.Itoa(n) }

// BodyStream is the name of BODY shard n.
func BodyStream(n int) string { return "BODY_" + strconv.Itoa(n) }

// ShardOf is the shard of a message: ids of one process spread evenly.
func ShardOf(id mail.QueueID) int { return hash(string(id)) % Shards }

// PartitionOf is the partition of a destination.
func PartitionOf(destination string) int { return hash(destination) % Partitions }

func hash(s string) int {
	h := fnv.New32a()
	h.Write([]byte(s))
	return int(h.Sum32() & 0x7fffffff)
}

// MailSubject is where ingress and bounce publish a message.
func MailSubject(lane mail.Lane, shard int) string {
	return "mail." + string(lane) + "." + strconv.Itoa(shard)
}

// BodySubject is where chunks of a large content go.
func BodySubject(shard int) string { return "body." + strconv.Itoa(shard) }

// KeepSubject is where the content of a message is kept that outlives MAIL,
// KeepChunkSubject where its chunks are.
func KeepSubject(id mail.QueueID) string { return "keep." + string(id) }

// KeepChunkSubject is the subject of the chunks of a kept content.
func KeepChunkSubject(id mail.QueueID) string { return "keep." + string(id) + ".body" }

// HeldSubject is where a part of a message waits that is held; "" is the message
// itself.
func HeldSubject(id mail.QueueID, part string) string {
	return "held." + string(id) + "." + heldToken(part)
}

// DecisionSubject is where what was decided about it is.
func DecisionSubject(id mail.QueueID, part string) string {
	return "decided." + string(id) + "." + heldToken(part)
}

// PartOf is the part that a HeldSubject or DecisionSubject names.
func PartOf(subject string) string {
	part := subject[strings.LastIndexByte(subject, '.')+1:]
	if part == heldToken("") {
		return ""
	}
	return part
}

func heldToken(part string) string {
	if part == "" {
		return "message"
	}
	return part
}

// HeldSubjects matches every HeldSubject, DecisionSubjects every DecisionSubject.
const (
	HeldSubjects     = "held.*.*"
	DecisionSubjects = "decided.*.*"
)

// AdmittedSubject is where policy publishes.
func AdmittedSubject(lane mail.Lane, shard int) string {
	return "admitted." + string(lane) + "." + strconv.Itoa(shard)
}

// ReadySubject is where a job waits for a worker.
func ReadySubject(lane mail.Lane, partition int) string {
	return "deliver.ready." + string(lane) + "." + strconv.Itoa(partition)
}

// LaterSubject is where a deferred job waits for its time. Each job has its
// own subject: a stream keeps one schedule per subject.
func LaterSubject(destination, job string) string {
	return fmt.Sprintf("deliver.later.%d.%s.%s", PartitionOf(destination), DestinationToken(destination), job)
}

// LaterSubjects matches every LaterSubject.
const LaterSubjects = "deliver.later.*.*.*"

// ReportSubject is where delivery asks for a report.
func ReportSubject(kind event.FailureKind) string { return "report." + string(kind) }

// LedgerSubject is where a record goes.
func LedgerSubject(stage event.Stage, outcome event.Outcome) string {
	return "ledger." + string(stage) + "." + string(outcome)
}

// RefusedSubject is where the evidence of refusals goes.
func RefusedSubject(stage string) string { return "refused." + stage }

// DestinationToken writes a destination as one subject token.
func DestinationToken(destination string) string { return strings.ReplaceAll(destination, ".", "~") }

// streams is the whole topology. MAIL, BODY, KEEP, HELD and LEDGER are the truth; ADMITTED,
// DELIVER and REPORT are derived from them; REFUSED is evidence, and REGISTRY_LOG
// what the bucket registry forgets.
func streams(replicas int, ledgerAge time.Duration) []jetstream.StreamConfig {
	var out []jetstream.StreamConfig
	add := func(c jetstream.StreamConfig) {
		c.Storage = jetstream.FileStorage
		c.Replicas = replicas
		c.AllowDirect = true
		c.Duplicates = dedupeWindow
		out = append(out, c)
	}
	for n := range Shards {
		add(jetstream.StreamConfig{Name: MailStream(n), Subjects: []string{"mail.*." + strconv.Itoa(n)},
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Description: "accepted mail (truth)"})
		add(jetstream.StreamConfig{Name: BodyStream(n), Subjects: []string{BodySubject(n)},
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Description: "chunks of large content (truth)"})
	}
	add(jetstream.StreamConfig{Name: StreamKeep, Subjects: []string{"keep.*", "keep.*.body"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Description: "content of the long-deferred (truth)"})
	add(jetstream.StreamConfig{Name: StreamHeld, Subjects: []string{HeldSubjects, DecisionSubjects}, MaxMsgsPerSubject: 1, AllowMsgTTL: true,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Description: "what is held, and what was decided about it (truth)"})
	add(jetstream.StreamConfig{Name: StreamAdmitted, Subjects: []string{"admitted.*.*"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Description: "admitted by policy (derived)"})
	// Schedules exclude DiscardNew, so DELIVER has no limit of its own: the
	// server's limit protects it.
	add(jetstream.StreamConfig{Name: StreamDeliver, Subjects: []string{"deliver.ready.*.*", LaterSubjects},
		Retention: jetstream.WorkQueuePolicy, AllowMsgSchedules: true, Description: "jobs, ready and deferred (derived)"})
	add(jetstream.StreamConfig{Name: StreamReport, Subjects: []string{"report.*"},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Description: "reports to write (derived)"})
	add(jetstream.StreamConfig{Name: StreamLedger, Subjects: []string{"ledger.*.*"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: ledgerAge,
		DenyDelete: true, DenyPurge: true, Compression: jetstream.S2Compression, Description: "what became of the mail (truth)"})
	add(jetstream.StreamConfig{Name: StreamRefused, Subjects: []string{"refused.*"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: 30 * 24 * time.Hour, MaxBytes: 256 << 20,
		Description: "refusals (evidence, bounded)"})
	add(jetstream.StreamConfig{Name: StreamRegistryLog, Sources: []*jetstream.StreamSource{{Name: "KV_" + BucketRegistry}},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: registryLogAge,
		DenyDelete: true, DenyPurge: true, Compression: jetstream.S2Compression, Description: "every change of the registry (audit)"})
	return out
}

// Ensure creates what is missing of the topology and brings what exists to
// its settings. Any service may do it, in any order, again and again.
func Ensure(ctx context.Context, js jetstream.JetStream, replicas int, ledgerAge time.Duration) error {
	if err := ensureBuckets(ctx, js, replicas); err != nil {
		return err
	}
	for _, want := range streams(replicas, ledgerAge) {
		err := ensureStream(ctx, js, want)
		for full(err) && want.MaxBytes > leastBytes { // more than a small store can set aside
			want.MaxBytes /= 16
			err = ensureStream(ctx, js, want)
		}
		if err != nil {
			return fmt.Errorf("create stream %s: %w", want.Name, err)
		}
	}
	return nil
}

func ensureBuckets(ctx context.Context, js jetstream.JetStream, replicas int) error {
	for _, b := range []jetstream.KeyValueConfig{
		{Bucket: BucketRegistry, History: 16, Replicas: replicas, Description: "devices and credentials (truth)"},
		{Bucket: BucketWorkers, TTL: WorkerTTL, Replicas: replicas, Description: "delivery workers alive, and leases"},
		{Bucket: BucketSettings, Replicas: replicas, Description: "marks and switches of the relay (truth)"},
		{Bucket: BucketServed, Replicas: replicas, Description: "who serves which partition (derived)"},
		{Bucket: BucketHolds, TTL: holdingTTL, Replicas: replicas, Description: "what is to be held before it is delivered (truth)"},
		{Bucket: BucketBudgets, TTL: 2 * time.Hour, Replicas: replicas, Description: "limits per hour, and leases of them (bounded)"},
	} {
		if _, err := js.KeyValue(ctx, b.Bucket); err == nil {
			continue
		}
		if _, err := js.CreateOrUpdateKeyValue(ctx, b); err != nil {
			return fmt.Errorf("create bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}

// leastBytes is what a stream with a limit gets at least, in octets.
const leastBytes = 1 << 20

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	have, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.FirstSeq = firstSeq(ctx, js, want.Name)
		_, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another service was faster
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	want, is := adjusted(have.CachedInfo().Config, want)
	if is {
		return nil
	}
	_, err = js.UpdateStream(ctx, want)
	return err
}

// adjusted is what a stream is to become that is there already, and whether it
// is that. It never gets fewer replicas: who starts while a server is down sees
// too few of them.
func adjusted(have, want jetstream.StreamConfig) (_ jetstream.StreamConfig, is bool) {
	want.Replicas = max(want.Replicas, have.Replicas)
	want.FirstSeq = have.FirstSeq
	return want, have.MaxAge == want.MaxAge && have.Duplicates == want.Duplicates && have.Replicas == want.Replicas && len(have.Subjects) == len(want.Subjects)
}

// firstSeq is where a derived stream begins that is made anew, in a relay that
// has a history: beyond all that one of its name ever had, unless that took a
// million messages a second. A worker that acknowledges a message of a stream
// that is gone names it by its sequence, and must not hit another.
func firstSeq(ctx context.Context, js jetstream.JetStream, stream string) uint64 {
	switch stream {
	case StreamHeld, StreamAdmitted, StreamDeliver, StreamReport:
	default:
		return 0
	}
	ledger, err := js.Stream(ctx, StreamLedger)
	if err != nil || ledger.CachedInfo().State.LastSeq == 0 {
		return 0
	}
	return uint64(time.Now().UnixMicro())
}

// Replicas is how many copies of a stream the connected system can keep: one
// on a single server, three in a cluster.
func Replicas(nc *nats.Conn) int {
	if nc.ConnectedClusterName() != "" && len(nc.Servers()) >= 3 {
		return 3
	}
	return 1
}

// ForgetWorkers empties the bucket of live delivery workers, for whoever knows
// that none lives: their partitions are free at once.
func ForgetWorkers(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, "KV_"+BucketWorkers)
	if err == nil {
		err = stream.Purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("empty bucket %s: %w", BucketWorkers, err)
	}
	return nil
}
