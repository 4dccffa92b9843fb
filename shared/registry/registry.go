// Package registry holds what the relay knows about who may send: plain types
// and the immutable [Snapshot] that authorization reads. It performs no I/O;
// package registry/store keeps it in a key-value bucket of the bus.
//
// Kinds of entries: a [Device] is registered by name; its addresses and the
// [Credential]s that name it lead to it, and the most specific address range
// wins. An [Owner] is a unit that has devices. A [Domain] is hosted, exactly as
// written. A [Network] gives an address range a meaning, a [Block] refuses an
// address or a sender whatever is registered. A [Group] is a list of addresses
// that hear notices, and a [Notice] one that was or is to be sent.
//
// Entries come from the configuration file or from commands, and say which
// ([Origin]); of two with one key that of the file counts. Every entry says who
// changed it last, when and why ([Entry]). Nothing is deleted: what is removed
// stays as an entry that says who removed it, and is in no snapshot.
//
// Limits: [MaxSenders] addresses that a device may send as, no wildcards
// but whole domains, where the configuration lets them be.
// 100,000 devices load in less than two seconds and 200 MB; a look-up takes
// less than a microsecond and allocates nothing (go test -bench . ./shared/registry/...).
package registry
