package books

import (
	"context"
	"time"
)

// QuestionWays asks how each device showed who it is: by its address or by a
// login.
const QuestionWays Question = "ways"

// WaysPeriod is the time over which Ways counts, and compares with as much before.
const WaysPeriod = 30 * 24 * time.Hour

// Ways is how a device showed who it is.
type Ways struct {
	Device string `json:"device"`
	// Recent counts its messages of the last WaysPeriod, Before those of the one
	// before that. Reports to it do not count.
	Recent Sent `json:"recent"`
	Before Sent `json:"before"`
}

// Sent counts messages accepted.
type Sent struct {
	ByAddress int `json:"by_address"`
	ByLogin   int `json:"by_login"`
}

// Ways hands those of every device that sent something in the last two periods
// to each, in the order of their names. An error of each ends it.
func (b *Books) Ways(ctx context.Context, each func(Ways) error) error {
	return stream(ctx, b, QuestionWays, struct{}{}, each)
}
