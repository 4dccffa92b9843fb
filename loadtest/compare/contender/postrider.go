package contender

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/postrider/postrider/loadtest/compare/traffic"
)

// postriderYAML is a relay of hosted domains. Its keys are made at the first
// start: RSA-2048 and Ed25519, with both of which it signs. All load comes from
// one address, so the bound on connections of one is lifted, as it is in
// Postfix's smtpd_client_connection_count_limit.
const postriderYAML = `relay: {hostname: relay.test, data: %[1]q}
listeners: [{name: devices, address: %[2]q, mode: relay, limits: {connections: 2000, per_address: 2000}}]
networks: {campus: [127.0.0.0/8]}
domains:
  hosted:
    - {name: %[4]s, route: "smtp://%[3]s"}
    - {name: %[5]s, route: "smtp://%[3]s"}
policy: {fcrdns: off}
limits: {messages_per_session: {relay: 1000000}}
metrics: {address: ""}
`

func configurePostrider(dir string, site Site) (setup, error) {
	address, err := freeAddress()
	if err != nil {
		return setup{}, err
	}
	file := filepath.Join(dir, "postrider.yaml")
	text := fmt.Sprintf(postriderYAML, filepath.Join(dir, "data"), address, site.Sink, traffic.RecipientDomain, traffic.SenderDomain)
	return setup{
		processes: []process{{argv: []string{located(site.Postrider), "up", "--config", file}, listens: address, greets: true}},
		address:   address,
	}, os.WriteFile(file, []byte(text), 0o600)
}
