package contender

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/postrider/postrider/loadtest/compare/traffic"
)

// mainCF is Postfix as it comes, with what makes it a relay for local clients
// to one host, without DNS and TLS.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
syslog_name = postfix
myhostname = relay.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtp_host_lookup = native
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
relayhost = %[2]s
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtpd_client_connection_count_limit = 0
`

// tunedCF is what an administrator of a busy relay would change.
const tunedCF = `default_process_limit = 200
in_flow_delay = 0
initial_destination_concurrency = 50
smtp_destination_concurrency_limit = 50
qmgr_message_active_limit = 40000
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = %s
`

const milterCF = `smtpd_milters = inet:%s
milter_default_action = tempfail
`

const masterCF = `%s inet n - n - - smtpd
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp     unix - - n - - smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
postlog  unix-dgram n - n - 1 postlogd
`

// opendkimConf signs all mail of the sender's domain. RequireSafeKeys is about
// the directories above the key, which is worth nothing here.
const opendkimConf = `Mode s
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
Domain %s
Selector compare
KeyFile %s
RequireSafeKeys no
Syslog no
Background no
Socket inet:%s@%s
`

func configurePostfix(tuned bool) func(string, Site) (setup, error) {
	return func(dir string, site Site) (setup, error) {
		text := mainText(dir, site)
		if tuned {
			text += fmt.Sprintf(tunedCF, bracketed(site.Sink))
		}
		return writePostfix(dir, text)
	}
}

// configureSigning is the tuned Postfix with OpenDKIM as its milter.
func configureSigning(dir string, site Site) (setup, error) {
	milter, err := freeAddress()
	if err != nil {
		return setup{}, err
	}
	host, port, _ := net.SplitHostPort(milter)
	key, conf := filepath.Join(dir, "rsa.pem"), filepath.Join(dir, "opendkim.conf")
	err = errors.Join(
		makeKey(key),
		os.WriteFile(conf, fmt.Appendf(nil, opendkimConf, traffic.SenderDomain, key, port, host), 0o644),
	)
	if err != nil {
		return setup{}, err
	}
	relay, err := writePostfix(dir, mainText(dir, site)+fmt.Sprintf(tunedCF, bracketed(site.Sink))+fmt.Sprintf(milterCF, milter))
	relay.processes = append([]process{{argv: []string{located("opendkim"), "-f", "-x", conf}, listens: milter}}, relay.processes...)
	return relay, err
}

func mainText(dir string, site Site) string { return fmt.Sprintf(mainCF, dir, bracketed(site.Sink)) }

// bracketed is an address as Postfix writes one that is not to be looked up.
func bracketed(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return "[" + host + "]:" + port
}

// writePostfix writes the configuration. Postfix makes the rest of its
// directories itself.
func writePostfix(dir, main string) (setup, error) {
	address, err := freeAddress()
	if err != nil {
		return setup{}, err
	}
	err = errors.Join(
		os.MkdirAll(filepath.Join(dir, "queue"), 0o755),
		os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(dir, "master.cf"), fmt.Appendf(nil, masterCF, address), 0o644),
	)
	return setup{
		// In the foreground, so that its end is seen.
		processes: []process{{argv: []string{located("postfix"), "-c", dir, "start-fg"}, listens: address, greets: true}},
		address:   address,
	}, err
}

// makeKey makes an RSA key of 2048 bits, unless one is there.
func makeKey(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, []byte(strings.TrimSpace(string(pem.EncodeToMemory(&block)))+"\n"), 0o600)
}
