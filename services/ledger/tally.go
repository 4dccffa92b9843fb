package ledger

// tally is what changes in the running balance: how many recipients of an
// owner at a destination are in each state, and a few sums.
type tally map[tallyKey]int

type tallyKey struct {
	owner, destination string
	what               int // a state or a sum
}

// Sums that are kept beside the states; their numbers are in the index file.
const (
	sumAccepted   = 10 // recipients named in an accepted record
	sumDuplicates = 11
	sumConflicts  = 12
	sumUnaccepted = 13 // recipients that are not
	sumMessages   = 14 // that were accepted, under no owner and no destination
	sumHeld       = 15
)

// add counts a recipient n times, -1 to take it out.
func (t tally) add(m *message, rcpt *recipient, n int) {
	k := tallyKey{m.owner, rcpt.destination, int(rcpt.state)}
	t[k] += n
	for what, holds := range map[int]bool{
		sumAccepted: rcpt.accepted, sumUnaccepted: !rcpt.accepted, sumDuplicates: rcpt.possibleDup, sumConflicts: rcpt.conflict,
		sumHeld: rcpt.held(),
	} {
		if holds {
			k.what = what
			t[k] += n
		}
	}
}
