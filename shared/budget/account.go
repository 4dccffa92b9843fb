package budget

// account is the budget of one key in one hour, as the bucket has it. What was
// handed out is in Spent or in Leases, never in both, and their sum is at most
// the limit: whoever holds a lease may spend it without asking.
type account struct {
	// Hour is the hour that it counts, since 1970.
	Hour int64 `json:"hour"`
	// Spent is what instances said they have spent.
	Spent int `json:"spent"`
	// Leases are what instances may have spent and have not said, by instance.
	Leases map[string]int `json:"leases,omitempty"`
}

// turn begins a new hour, if it has come. An hour that others began already,
// their clocks being ahead, stays.
func (a *account) turn(hour int64) {
	if hour > a.Hour {
		*a = account{Hour: hour}
	}
}

// settle books what an instance has of its lease, and ends the lease.
func (a *account) settle(instance string, unspent int) {
	a.Spent += a.Leases[instance] - unspent
	delete(a.Leases, instance)
}

// lease hands an instance that has none at least n, or nothing. Beyond n it gets
// a slice to spend without asking: at most a fortieth of the limit, and all
// leases together no more than a tenth, so that no more than a tenth can ever
// lie with instances that do not need it, or are no more.
func (a *account) lease(instance string, limit, n int) int {
	open := a.open()
	left := limit - a.Spent - open
	if left < n {
		return 0
	}
	slice := min(limit/slices, limit/idle-open, left)
	granted := max(n, slice)
	if a.Leases == nil {
		a.Leases = map[string]int{}
	}
	a.Leases[instance] = granted
	return granted
}

// Parts of a limit: one slice, and what all may have lying idle.
const (
	slices = 40
	idle   = 10
)

func (a *account) open() (sum int) {
	for _, n := range a.Leases {
		sum += n
	}
	return sum
}
