package registry

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// Parameters of argon2id (RFC 9106 §4 with less memory): 19 MiB, so that a
// burst of logins cannot exhaust a small machine.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
	argonLanes  = 1
	argonKey    = 32
)

// NewSecret makes a secret of 26 characters (128 bits) that is shown once.
func NewSecret() string { return rand.Text() }

// HashSecret is the encoded hash to keep: $argon2id$v=19$m=…,t=…,p=…$salt$key.
func HashSecret(secret string) string {
	salt := make([]byte, 16)
	rand.Read(salt)
	key := argon2.IDKey([]byte(secret), salt, argonTime, argonMemory, argonLanes, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decoyHash costs as much to check as a real one, so that an unknown user
// takes as long as a wrong password.
const decoyHash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// Check reports whether a secret is one of those of a credential. It takes as
// long for a credential that is not there (nil) or has none.
func (c *Credential) Check(secret string, now time.Time) bool {
	found := false
	if c != nil {
		for _, s := range c.Secrets {
			if s.Until.IsZero() || now.Before(s.Until) {
				found = CheckSecret(s.Hash, secret) || found
			}
		}
		if len(c.Secrets) > 0 {
			return found
		}
	}
	CheckSecret("", secret)
	return false
}

// CheckSecret reports whether the secret has that hash. An empty hash is
// checked against a decoy and never matches.
func CheckSecret(hash, secret string) bool {
	known := hash != ""
	if !known {
		hash = decoyHash
	}
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	var memory, time uint32
	var lanes uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil || memory > 1<<20 || time > 16 || time == 0 || lanes == 0 {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) == 0 {
		return false
	}
	got := argon2.IDKey([]byte(secret), salt, time, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && known
}
