package config
import ("testing";"os";"time";"fmt";"path/filepath")
func FuzzScratch(f *testing.F){
	f.Add(Template("relay.campus.test"))
	files, _ := filepath.Glob("testdata/broken/*.yaml")
	for _, path := range append(files, "testdata/design.yaml") {
		data, _ := os.ReadFile(path)
		f.Add(data)
	}
 f.Fuzz(func(t *testing.T,data []byte){
  done:=make(chan struct{})
  go func(){ Parse("f.yaml",data); close(done)}()
  select{ case <-done: case <-time.After(3*time.Second):
   os.WriteFile("/tmp/hang.yaml",data,0o644)
   panic(fmt.Sprintf("hang %q",data))}
 })
}
