package mail

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// QueueID names one accepted message in Received fields, replies, logs,
// reports and the ledger. It has 16 characters of Crockford's base32: 42 bits
// of milliseconds since 2020, 14 bits of sequence, 24 bits of the generator,
// so that ids sort by time and two ingress instances do not meet.
type QueueID string

const (
	queueIDLen   = 16
	crockford    = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	sequenceBits = 14
	sourceBits   = 24
)

var queueIDEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// QueueIDs makes ids for one process. It is safe for concurrent use.
type QueueIDs struct {
	source uint32
	last   atomic.Uint64 // milliseconds<<sequenceBits | sequence
}

// NewQueueIDs starts a generator with a random source of 24 bits.
func NewQueueIDs() *QueueIDs {
	var b [4]byte
	rand.Read(b[:])
	return &QueueIDs{source: binary.BigEndian.Uint32(b[:]) >> 8}
}

// Next is a fresh id. Ids of one generator increase strictly, also when the
// clock steps back; a sequence that runs over borrows from the next
// millisecond.
func (q *QueueIDs) Next() QueueID {
	now := uint64(time.Now().UnixMilli()-queueIDEpoch) << sequenceBits
	for {
		last := q.last.Load()
		next := max(now, last+1)
		if q.last.CompareAndSwap(last, next) {
			return encodeQueueID(next>>24, next<<sourceBits|uint64(q.source))
		}
	}
}

// encodeQueueID writes 80 bits: the lower 32 of hi, then the lower 48 of lo.
func encodeQueueID(hi, lo uint64) QueueID {
	hi, lo = hi&0xffffffff, lo&0xffffffffffff
	var out [queueIDLen]byte
	// The last 8 characters are the low 40 bits, the first 8 the high 40.
	low := lo & 0xffffffffff
	high := hi<<8 | lo>>40
	for i := 7; i >= 0; i-- {
		out[i], high = crockford[high&31], high>>5
		out[i+8], low = crockford[low&31], low>>5
	}
	return QueueID(out[:])
}

// QueueIDAt is the id of a message that the relay itself writes at a time, for a
// purpose: the same arguments give the same id.
func QueueIDAt(at time.Time, purpose string) QueueID {
	ms := uint64(at.UnixMilli()-queueIDEpoch) << sequenceBits
	return encodeQueueID(ms>>24, ms<<sourceBits).Derive(purpose)
}

// Derive is the id of the message that follows from this one for the given
// purpose, such as its report: the same arguments give the same id, so that a
// repeated derivation is the same message. It sorts beside its origin.
func (id QueueID) Derive(purpose string) QueueID {
	sum := sha256.Sum256([]byte(string(id) + "\x00" + purpose))
	tail := encodeQueueID(uint64(binary.BigEndian.Uint32(sum[0:])), binary.BigEndian.Uint64(sum[4:]))
	if len(id) < 8 {
		return tail
	}
	return id[:8] + tail[8:]
}

// Time is when the id was made, to the millisecond.
func (id QueueID) Time() time.Time {
	if len(id) != queueIDLen {
		return time.Time{}
	}
	var v uint64
	for i := range 9 { // 45 bits; the upper 42 are the milliseconds
		v = v<<5 | uint64(strings.IndexByte(crockford, id[i]))
	}
	return time.UnixMilli(int64(v>>3) + queueIDEpoch).UTC()
}

// ErrQueueID is returned for text that is no QueueID.
var ErrQueueID = errors.New("not a queue id")

// ParseQueueID reads an id that a person typed: in any case, with O for 0 and
// I or L for 1.
func ParseQueueID(s string) (QueueID, error) {
	s = strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(s)))
	if len(s) != queueIDLen {
		return "", fmt.Errorf("%w: %d characters instead of %d", ErrQueueID, len(s), queueIDLen)
	}
	for i := range len(s) {
		if strings.IndexByte(crockford, s[i]) < 0 {
			return "", fmt.Errorf("%w: %q", ErrQueueID, s[i])
		}
	}
	return QueueID(s), nil
}
