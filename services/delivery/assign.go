package delivery

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/postrider/postrider/shared/queue"
)

// assign gives every partition one of the members, by rendezvous hashing with
// bounded loads: each partition goes to the member that ranks it highest and
// has not its share already. All who know the same members agree, no member
// has more than its share, and a change of members moves few partitions. The
// result is empty without members.
func assign(members []string) (owners [queue.Partitions]string) {
	if len(members) == 0 {
		return owners
	}
	share := (queue.Partitions + len(members) - 1) / len(members)
	load := make(map[string]int, len(members))
	for p := range queue.Partitions {
		ranked := slices.Clone(members)
		slices.SortFunc(ranked, func(a, b string) int {
			return cmp.Or(cmp.Compare(rank(b, p), rank(a, p)), cmp.Compare(a, b))
		})
		for _, m := range ranked {
			if load[m] < share {
				owners[p] = m
				load[m]++
				break
			}
		}
	}
	return owners
}

// rank is how much a member wants a partition. FNV alone leaves similar
// names with similar hashes; the finalizer of MurmurHash3 mixes them.
func rank(member string, partition int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(member + "/" + strconv.Itoa(partition)))
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
