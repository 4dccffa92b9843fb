package queue

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A stream that is there is brought to its settings, but keeps its replicas
// when fewer servers are seen than it has, and begins where it began.
func TestAdjusted(t *testing.T) {
	have := jetstream.StreamConfig{Replicas: 3, MaxAge: time.Hour, Subjects: []string{"a"}, FirstSeq: 7}
	for _, c := range []struct {
		what     string
		want     jetstream.StreamConfig
		replicas int
		is       bool
	}{
		{"as it is", jetstream.StreamConfig{Replicas: 3, MaxAge: time.Hour, Subjects: []string{"a"}}, 3, true},
		{"one server is seen", jetstream.StreamConfig{Replicas: 1, MaxAge: time.Hour, Subjects: []string{"a"}}, 3, true},
		{"one server, another age", jetstream.StreamConfig{Replicas: 1, MaxAge: time.Minute, Subjects: []string{"a"}}, 3, false},
		{"more servers", jetstream.StreamConfig{Replicas: 5, MaxAge: time.Hour, Subjects: []string{"a"}}, 5, false},
		{"another window", jetstream.StreamConfig{Replicas: 3, MaxAge: time.Hour, Duplicates: time.Minute, Subjects: []string{"a"}}, 3, false},
		{"another subject", jetstream.StreamConfig{Replicas: 3, MaxAge: time.Hour, Subjects: []string{"a", "b"}}, 3, false},
	} {
		got, is := adjusted(have, c.want)
		if got.Replicas != c.replicas || is != c.is || got.FirstSeq != 7 || got.MaxAge != c.want.MaxAge || len(got.Subjects) != len(c.want.Subjects) {
			t.Errorf("%s: %+v, is %v", c.what, got, is)
		}
	}
}
