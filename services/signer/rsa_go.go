//go:build !cgo || !linux

package signer

import (
	"crypto"
	"crypto/rsa"
	"errors"
)

// systemRSA fails: this program was built without access to C libraries.
func systemRSA(*rsa.PrivateKey) (crypto.Signer, error) {
	return nil, errors.New("built without cgo")
}
