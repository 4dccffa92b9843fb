// Package recovery takes streams away from a whole relay, and looks that
// recovery loses nothing and sends nothing twice: every derived stream while
// everything runs, every derived stream with its consumers while it is stopped,
// and the later part of LEDGER. Mail exchangers count every copy.
//
// It needs the build tag recovery and some two minutes: go test -tags
// recovery ./recovery in the folder test.
package recovery
