// Package faults hurts a relay of separate processes while it is under load,
// and then holds the three witnesses against each other: what the devices were
// told, what the mailbox got, and what the books say (loadtest/README.md).
//
// Every service is a process of its own, delivery two; the nats-servers are,
// too. TestKills kills each of them at random moments and starts it again;
// TestStops stops it for five seconds; TestAllAtOnce kills everything at once.
// TestStoreSilent and TestNoQuorum take the store away and look at what a
// device is told meanwhile.
//
// What happens when follows from a seed, and is printed before it happens.
// The moments are shares of the whole work (messages accepted, recipients
// served), so that a plan means the same on a fast machine and on a slow one.
//
// What must hold after it: every accepted recipient ended exactly once and
// where the books say; the books balance; a message arrived twice only where a
// fault took away the answer to its dot, or the record of that answer
// (ambiguity_test.go); what a device was told 451 about exists only where the
// store was away meanwhile.
//
// The tests have the build tag faults (make faults). FAULT_SEEDS, FAULT_MESSAGES
// and FAULT_KILLS make the short form that CI runs into a long one, and
// FAULT_TARGETS=nats-1 strikes only that process. With -artifacts the journals
// and the logs of all processes are kept.
package faults
