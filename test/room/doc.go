// Package room takes the room away from a relay, and its store: a volume that
// fills up with mail, one that another program fills to the last octet while
// mail comes in, and a store that falls silent. What must hold: nothing that
// was answered 250 is lost, nothing comes twice, devices are told 452 or 451,
// and when there is room again the relay serves by itself.
//
// The programs are the real ones, the volumes are small tmpfs. The tests have
// the build tag faults (make faults) and need root, which may mount them.
package room
