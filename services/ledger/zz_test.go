package ledger
import ("testing";"fmt";"time";"os";"runtime/pprof";"github.com/postrider/postrider/shared/books";"github.com/postrider/postrider/shared/queuetest")
func TestZZ(t *testing.T) {
	bus := queuetest.Start(t); s := script{t, bus}
	for n := range 100 { var r []string; for i := range 1000 { r = append(r, fmt.Sprintf("%d.%d@example.org", n, i)) }; s.record(accepted(fmt.Sprint("M", n), r...)) }
	start(t, bus, t.TempDir())
	time.Sleep(2*time.Second)
	for range 25 {
	b := time.Now()
	x := time.AfterFunc(5*time.Second, func() { pprof.Lookup("goroutine").WriteTo(os.Stdout, 1) })
	fmt.Println(len(export(t, bus, books.Filter{})), time.Since(b))
	x.Stop()
	}
}
