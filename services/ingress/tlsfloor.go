package ingress

import (
	"crypto/tls"
	"net/netip"
	"slices"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

// tlsFloor is the oldest TLS that is spoken, and with which cipher suites.
type tlsFloor struct{ minimum, ciphers string }

// deviceFloor is that of a device which nobody can teach better.
var deviceFloor = tlsFloor{"1.0", config.CiphersLegacy}

var tlsVersions = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// legacySuites are those of old devices, after all that are secure: key exchange
// by RSA alone, 3DES and, last, RC4 (which RFC 7465 forbids, and which is still
// better than the clear text that such a device falls back to). They are named
// one by one, since the library's own choice knows some of them no longer.
func legacySuites() (suites []uint16) {
	for _, s := range tls.CipherSuites() {
		suites = append(suites, s.ID)
	}
	return append(suites,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_RSA_WITH_RC4_128_SHA)
}

// serverTLS is the server side of TLS of a listener: its own floor, a lower one
// for the sources and the devices that are named, and for nobody else. There is
// one configuration for each floor, so that sessions are resumed.
func serverTLS(l config.Listener, base *tls.Config, reg func() *registry.Snapshot) *tls.Config {
	configs := map[tlsFloor]*tls.Config{}
	of := func(f tlsFloor) *tls.Config {
		if configs[f] == nil {
			c := base.Clone()
			c.MinVersion = tlsVersions[f.minimum]
			if f.ciphers == config.CiphersLegacy {
				c.CipherSuites = legacySuites()
			}
			configs[f] = c
		}
		return configs[f]
	}
	own, device := of(tlsFloor{l.TLSMinimum, l.Ciphers}), of(deviceFloor)
	sources := slices.Clone(l.TLSFloorBySource) // the most specific first
	slices.SortStableFunc(sources, func(a, b config.TLSFloor) int { return b.From.Bits() - a.From.Bits() })
	bySource := make([]*tls.Config, len(sources))
	for i, s := range sources {
		bySource[i] = of(tlsFloor{s.Minimum, s.Ciphers})
	}
	choose := func(client netip.Addr) *tls.Config {
		if d, ok := reg().ByAddress(client); ok && d.Quirks.LegacyTLS {
			return device
		}
		for i, s := range sources {
			if s.From.Contains(client) {
				return bySource[i]
			}
		}
		return own
	}
	c := own.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from, err := netip.ParseAddrPort(hello.Conn.RemoteAddr().String())
		if err != nil {
			return nil, nil // as the listener has it
		}
		return choose(from.Addr().Unmap().WithZone("")), nil
	}
	return c
}

// legacy reports a listener that speaks to old devices somewhere.
func legacy(l config.Listener) bool {
	return l.Ciphers == config.CiphersLegacy ||
		slices.ContainsFunc(l.TLSFloorBySource, func(f config.TLSFloor) bool { return f.Ciphers == config.CiphersLegacy })
}
