// Package estate moves an estate: 3,000 senders of many kinds that a real Postfix
// knows, and an Exchange export of the same. They are imported in one command;
// then every sender asks both relays, from its own address of 127.0.0.0/8,
// whether they would take its mail for a hosted domain and for another one. The
// answers must be the same, or the import must have said that it could not
// translate what makes the difference.
//
// The tests have the build tag estate (make estate). They need root, for a mail
// server that changes users, and the Debian package postfix. Postfix runs from
// directories and on a port of its own. Nothing is sent: a session ends after
// the answers to RCPT.
//
// Limits: nobody authenticates to Postfix, which would need a SASL library with
// users of its own; what becomes of logins is tested in shared/registry/translate.
package estate
