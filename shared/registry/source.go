package registry

import _ "embed" // for Source

// Source is the source of Device, for the documentation that is made of it.
//
//go:embed device.go
var Source string
