package config

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"
)

// checkScan checks what names the scanners, and what becomes of mail.
func (k *checker) checkScan() {
	s := &k.Scan
	if s.Rspamd != "" {
		if u, err := url.Parse(s.Rspamd); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			k.bad("scan.rspamd", "this is not a URL such as http://127.0.0.1:11333")
		}
	}
	if s.Milter != "" {
		if _, _, err := MilterAddress(s.Milter); err != nil {
			k.bad("scan.milter", "%s", err)
		}
	}
	k.oneOf("scan.on_reject", s.OnReject, "hold", "refuse")
	k.oneOf("scan.when_down", s.WhenDown, "admit", "later", "hold")
	if s.Timeout < Duration(time.Second) || s.Timeout > Duration(10*time.Minute) {
		k.bad("scan.timeout", "a scanner has between 1s and 10m")
	}
}

// errMilter says what the address of a milter looks like.
var errMilter = errors.New("this is not an address of a milter: inet:host:port, inet:port@host or unix:/path")

// MilterAddress reads the address of a milter as network and address to dial.
func MilterAddress(s string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "unix", "local":
		if !strings.HasPrefix(rest, "/") {
			return "", "", errMilter
		}
		return "unix", rest, nil
	case "inet", "inet6":
		if port, host, ok := strings.Cut(rest, "@"); ok {
			rest = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
	default:
		rest = s
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || host == "" || port == "" {
		return "", "", errMilter
	}
	return "tcp", rest, nil
}
