//go:build flood

package flood

import (
	"os"
	"testing"

	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }
