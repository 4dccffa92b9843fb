package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
)

// Duration is a time.Duration that also reads days: "5m", "36h", "5d".
type Duration time.Duration

// ParseDuration reads a Go duration or whole days with the suffix "d".
func ParseDuration(s string) (Duration, error) {
	if days, ok := strings.CutSuffix(strings.TrimSpace(s), "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, notDuration(s)
		}
		return Duration(time.Duration(n) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil || d < 0 {
		return 0, notDuration(s)
	}
	return Duration(d), nil
}

func notDuration(s string) error {
	return fmt.Errorf("%s is not a duration (examples: 30s, 5m, 36h, 5d)", quote(s))
}

// UnmarshalText reads it from the file.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is as an operator writes it: whole days as "5d", "1h" without
// minutes of zero.
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of octets: "50MB", "512KiB", "1048576".
type Size int64

// ParseSize reads a number with an optional unit; KB, MB, GB are powers of
// 1000, KiB, MiB, GiB of 1024.
func ParseSize(s string) (Size, error) {
	t := strings.TrimSpace(s)
	digits := strings.TrimRight(t, "KMGiBkmgb ")
	n, err := strconv.ParseUint(digits, 10, 63)
	unit, ok := map[string]int64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}[strings.ToUpper(strings.TrimSpace(t[len(digits):]))]
	if err != nil || !ok || leadingZero(digits) || int64(n) > 1<<50/unit {
		return 0, fmt.Errorf("%s is not a size (examples: 50MB, 512KiB)", quote(s))
	}
	return Size(int64(n) * unit), nil
}

// leadingZero reports a number that some readers of YAML take for octal.
func leadingZero(digits string) bool { return len(digits) > 1 && digits[0] == '0' }

// UnmarshalText reads it from the file.
func (z *Size) UnmarshalText(b []byte) (err error) {
	*z, err = ParseSize(string(b))
	return err
}

// MarshalText writes String.
func (z Size) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// String uses the largest unit that divides it.
func (z Size) String() string {
	for _, u := range []struct {
		name   string
		octets Size
	}{{"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}} {
		if z >= u.octets && z%u.octets == 0 {
			return strconv.FormatInt(int64(z/u.octets), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(z), 10)
}

// Mode is an authz.Mode that also reads true and false.
type Mode authz.Mode

// UnmarshalText reads it from the file.
func (m *Mode) UnmarshalText(b []byte) error {
	switch s := strings.ToLower(strings.TrimSpace(string(b))); s {
	case "true", "on", "enforce":
		*m = Mode(authz.Enforce)
	case "false", "off":
		*m = Mode(authz.Off)
	case "observe":
		*m = Mode(authz.Observe)
	default:
		return fmt.Errorf("%s is none of off, observe, enforce%s", quote(s), didYouMean(s, []string{"off", "observe", "enforce"}))
	}
	return nil
}

// Lifetime is how long a message is tried, by class.
type Lifetime struct {
	// Alert is of mail of class alert.
	Alert Duration `yaml:"alert"`
	// Scan is of mail of class scan.
	Scan Duration `yaml:"scan"`
	// Application is of mail of class application.
	Application Duration `yaml:"application"`
	// Report is of our own reports.
	Report Duration `yaml:"report"`
	// Default is of all other mail.
	Default Duration `yaml:"default"`
}

// Of is the lifetime of a class.
func (l Lifetime) Of(c mail.Class) time.Duration {
	switch c {
	case mail.ClassAlert:
		return time.Duration(l.Alert)
	case mail.ClassScan:
		return time.Duration(l.Scan)
	case mail.ClassApplication:
		return time.Duration(l.Application)
	case mail.ClassReport:
		return time.Duration(l.Report)
	}
	return time.Duration(l.Default)
}

// UnmarshalText reads the form of one duration for all classes; a mapping by
// class is read field by field.
func (l *Lifetime) UnmarshalText(b []byte) error {
	one, err := ParseDuration(string(b))
	if err == nil {
		*l = Lifetime{one, one, one, one, one}
	}
	return err
}

// parseNetwork reads a network in CIDR form without host bits, or a plain
// address, which is a network of one. IPv4-mapped forms become IPv4.
func parseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%s is not a network (example: 10.0.0.0/8)", quote(s))
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if masked := p.Masked(); p != masked {
		return p, fmt.Errorf("%s has bits beyond its length; did you mean %q, or %q for one address?", quote(s), masked, p.Addr())
	}
	return p, nil
}

// parseAddr reads one IP address without a zone.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%s is not an IP address (example: 192.0.2.25)", quote(s))
	}
	return a.Unmap(), nil
}
