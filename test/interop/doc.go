// Package interop lets the relay meet programs that others wrote: Debian's
// Postfix as mail exchanger, OpenDKIM and dkimpy as verifiers, swaks as device,
// tcpdump on the wire, MIT Kerberos and OpenLDAP as authorities. What we think of
// our own mail is not asked here.
//
// The tests have the build tag interop (make interop). They need root, for a
// mail server that changes users, for port 53 and for mount namespaces, and
// these Debian packages: postfix swaks opendkim-tools python3-dkim tcpdump
// krb5-kdc krb5-admin-server slapd. A missing one fails the run; nothing is
// skipped. Everything listens on 127.0.0.0/8 and runs from directories of its
// own; the machine's own configuration of Postfix, Kerberos, slapd and of the
// resolver is not touched. The ports of the sandbox, 2525, 2587 and 2465, must be
// free.
package interop
