// Package flood sends a relay a million recipients that it refuses. Its tests
// need the build tag flood.
package flood
