package delivery

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/shared/queue"
)

// sight is what was seen of a partition when all who had served it before were
// dead: what was stored after that, none of them had. It tells mail that only
// waits, for as long as nothing may be sent, from what the dead may have sent.
type sight struct {
	life   string
	server string
	// upTo is the last sequence of DELIVER.
	upTo uint64
	// dead are the keys of those who were.
	dead map[string]bool
}

// look sees how far DELIVER is, once, when there are dead to ask about and
// nobody lives who could have had something since.
func (r *rota) look(ctx context.Context, bus *queue.Bus, partition int) error {
	if err := r.aware(ctx); err != nil {
		return err
	}
	living, dead := r.others(partition)
	if r.sighted(partition) || len(living) > 0 || len(dead) == 0 {
		return nil
	}
	s := sight{server: bus.NC.ConnectedServerId(), dead: map[string]bool{}}
	for _, e := range dead {
		s.dead[e.key] = true
	}
	var err error
	if s.life, s.upTo, err = lifeOf(ctx, bus, partition); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sights[partition] = s
	return nil
}

// sighted reports that the dead of a partition were seen, and it is not served
// since.
func (r *rota) sighted(partition int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.sights[partition]
	return ok
}

// fresh is from where on in DELIVER those had nothing who are dead when a tenure
// begins; 0 when that is not known. A sight holds while the bus has forgotten
// nothing since, and the same are dead.
func (r *rota) fresh(t *tenure) uint64 {
	living, dead := r.others(t.partition)
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sights[t.partition]
	delete(r.sights, t.partition)
	if !ok || s.life != t.life || s.server != t.server || len(living) > 0 {
		return 0
	}
	for _, e := range dead {
		if !s.dead[e.key] {
			return 0
		}
	}
	return s.upTo + 1
}

// lifeOf is the life of the consumers of a partition, and then the last
// sequence of DELIVER.
func lifeOf(ctx context.Context, bus *queue.Bus, partition int) (life string, upTo uint64, err error) {
	for _, l := range lanes() {
		one, err := bus.Life(ctx, l.source(partition, nil))
		if err != nil {
			return "", 0, err
		}
		life += one + " "
	}
	stream, err := bus.JS.Stream(ctx, queue.StreamDeliver)
	if err != nil {
		return "", 0, fmt.Errorf("look at partition %d: %w", partition, err)
	}
	return life, stream.CachedInfo().State.LastSeq, nil
}
