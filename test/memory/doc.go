//go:build memory

// Package memory measures what a large message costs each process of a relay
// of separate processes, and holds it to a bound that does not grow with the
// message nor with how many there are at once.
//
//	go test -count=1 -tags memory -timeout 20m -v ./test/memory
//
// Resident memory is that of the kernel's books (/proc/PID/status): VmHWM is
// the peak since the last reset of clear_refs. It contains the program itself
// (some 20 MB of mapped text and data).
package memory
