package main

import (
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/postrider/postrider/loadtest/generate"
)

// watch shows the progress on w until the function it returns is called: a
// bar on a terminal, otherwise a line of JSON every 5 seconds.
func watch(w io.Writer, total int, progress func() generate.Counts) (stop func()) {
	every, show, end := 5*time.Second, lines(w, total), func() {}
	if isTerminal(w) {
		every = 200 * time.Millisecond
		show, end = bar(w, total)
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show(progress())
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
		end()
	}
}

// lines shows the counts as JSON, with the time and the rate since the start.
func lines(w io.Writer, total int) func(generate.Counts) {
	start := time.Now()
	encoder := json.NewEncoder(w)
	return func(c generate.Counts) {
		elapsed := time.Since(start).Seconds()
		// Progress that cannot be shown is no reason to end the run.
		_ = encoder.Encode(struct {
			Seconds float64 `json:"seconds"`
			Total   int     `json:"total"`
			Rate    float64 `json:"accepted_per_second"`
			generate.Counts
		}{elapsed, total, float64(c.Accepted) / elapsed, c})
	}
}

func bar(w io.Writer, total int) (show func(generate.Counts), end func()) {
	b := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("submitting"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("messages"),
		progressbar.OptionClearOnFinish(),
	)
	show = func(c generate.Counts) { _ = b.Set(min(total, c.Accepted+c.Refused+c.GaveUp)) }
	return show, func() { _ = b.Clear() }
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
