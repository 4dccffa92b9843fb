package delivery

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/queue"
)

func TestAssign(t *testing.T) {
	if owners := assign(nil); owners != [queue.Partitions]string{} {
		t.Errorf("nobody owns %v", owners)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "members")
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf("host-%d-%s", i, rapid.StringMatching(`[a-z0-9]{6}`).Draw(t, "name")))
		}
		owners := assign(members)
		if owners != assign(rapid.Permutation(members).Draw(t, "order")) {
			t.Fatal("the order in which members are known decides")
		}
		load := map[string]int{}
		for p, owner := range owners {
			if owner == "" {
				t.Fatalf("partition %d has no owner", p)
			}
			load[owner]++
		}
		for m, l := range load {
			if share := (queue.Partitions + n - 1) / n; l > share {
				t.Fatalf("%s has %d partitions, its share is %d", m, l, share)
			}
		}
	})
}

// One who leaves hands over what he had; of the rest little moves. That holds
// on average, not for every set of names, since nobody may have more than his
// share.
func TestAssignMovesLittle(t *testing.T) {
	const sets = 200
	for n := 2; n <= queue.Partitions; n++ {
		moved := 0
		for set := range sets {
			var members []string
			for i := range n {
				members = append(members, fmt.Sprintf("host-%d-%d", i, set))
			}
			owners := assign(members)
			for p, owner := range assign(members[1:]) {
				if owners[p] != members[0] && owner != owners[p] {
					moved++
				}
			}
		}
		if mean := float64(moved) / sets; mean > queue.Partitions/2 {
			t.Errorf("%d members: %.1f partitions moved between those who stayed", n, mean)
		}
	}
}
