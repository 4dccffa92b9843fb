package queue

import "testing"

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"2.9.10": true, "2.14.9": true, "2.15.1": true, "2.15.2": false, "2.15.3": false, "2.16.0": false,
		"3.0.0": false, "1.4.1": true, "2.16.0-preview.1": false, "2.15.2-beta": false, "devel": false, "": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("tooOld(%q) = %v", version, got)
		}
	}
}
