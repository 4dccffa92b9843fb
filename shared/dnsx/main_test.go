package dnsx

import (
	"testing"

	"go.uber.org/goleak"
)

// No test may leave a goroutine: neither a query nor the cache outlives Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
