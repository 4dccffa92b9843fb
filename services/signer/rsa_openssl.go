//go:build cgo && linux

package signer

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"runtime"

	"github.com/golang-fips/openssl/v2"
	"github.com/golang-fips/openssl/v2/bbig"
)

// libcrypto is looked for as the dynamic loader does. OpenSSL keeps its ABI
// within a major version.
const libcrypto = "libcrypto.so.3"

// openSSL is an RSA key in the OpenSSL of the system.
type openSSL struct {
	public  *rsa.PublicKey
	private *openssl.PrivateKeyRSA
	turn    chan struct{}
}

// systemRSA takes a key into the OpenSSL of the system. It fails where there
// is none.
func systemRSA(key *rsa.PrivateKey) (crypto.Signer, error) {
	if len(key.Primes) != 2 {
		return nil, fmt.Errorf("RSA key has %d primes, OpenSSL is given two", len(key.Primes))
	}
	if err := openssl.Init(libcrypto); err != nil {
		return nil, err
	}
	key.Precompute()
	private, err := openssl.NewPrivateKeyRSA(
		bbig.Enc(key.N), bbig.Enc(big.NewInt(int64(key.E))), bbig.Enc(key.D), bbig.Enc(key.Primes[0]), bbig.Enc(key.Primes[1]),
		bbig.Enc(key.Precomputed.Dp), bbig.Enc(key.Precomputed.Dq), bbig.Enc(key.Precomputed.Qinv))
	if err != nil {
		return nil, err
	}
	return &openSSL{&key.PublicKey, private, make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
}

func (k *openSSL) Public() crypto.PublicKey { return k.public }

// Sign makes a signature of PKCS #1 v1.5, the one DKIM has (RFC 6376 §3.3).
func (k *openSSL) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	return openssl.SignRSAPKCS1v15(k.private, opts.HashFunc(), digest)
}
