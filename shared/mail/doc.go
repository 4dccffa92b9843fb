// Package mail holds the words for a message itself: its identity, its
// envelope, its header section and its trace fields. It performs no I/O
// but to read from a reader it is given,
// imports the standard library and package smtp only, and never rewrites what
// a sender wrote: fields are read in place or prepended.
//
// Standards: RFC 5321 §2.3.1 (mail object), §4.4 (trace), §6.3 (loops);
// RFC 5322 §2.2, §3.6 (header section); RFC 6409 §8 (what a submission
// server may add).
package mail
