//go:build estate

package estate

import (
	"fmt"
	"os"
	"testing"

	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat("/usr/sbin/postfix"); err != nil || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the estate cannot be moved: root and Postfix are needed (apt-get install postfix)")
		os.Exit(1)
	}
	os.Exit(world.Main(m))
}
