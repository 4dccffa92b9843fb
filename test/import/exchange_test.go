//go:build estate

package estate

import (
	"fmt"
	"strings"
)

// clixml is an export of the estate as three connectors, in the form of
// Export-Clixml: the default one for everybody, one of the campus for anonymous
// users, and one that trusts its clients.
func (e *estate) clixml() string {
	w := &strings.Builder{}
	fmt.Fprintln(w, `<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">`)
	for i, c := range []struct {
		name, auth, groups string
		ranges             []string
	}{
		{"Default Frontend MBX1", "Tls, Integrated, BasicAuth, BasicAuthRequireTLS, ExchangeServer", "AnonymousUsers, ExchangeServers, ExchangeLegacyServers", []string{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0-255.255.255.255"}},
		{"Campus", "Tls", "AnonymousUsers", append([]string{"127.30.0.0-127.30.200.99"}, e.hosted...)},
		{"Relay", "Tls, ExternalAuthoritative", "ExchangeServers", e.anywhere},
	} {
		fmt.Fprintf(w, `  <Obj RefId="%d"><TN RefId="0"><T>Deserialized.Microsoft.Exchange.Data.Directory.SystemConfiguration.ReceiveConnector</T></TN><ToString>MBX1\%s</ToString><Props>
    <Obj N="AuthMechanism"><ToString>%s</ToString><I32>1</I32></Obj>
    <S N="Fqdn">mbx1.campus.test</S>
    <B N="Enabled">true</B>
    <Obj N="Bindings"><LST><S>0.0.0.0:25</S></LST></Obj>
    <Obj N="PermissionGroups"><ToString>%s</ToString><I32>1</I32></Obj>
    <Obj N="MaxMessageSize"><ToString>36 MB (37,748,736 bytes)</ToString></Obj>
    <S N="Name">%s</S>
    <Obj N="RemoteIPRanges"><LST>
`, i, c.name, c.auth, c.groups, c.name)
		for _, r := range c.ranges {
			fmt.Fprintf(w, "      <S>%s</S>\n", r)
		}
		fmt.Fprintln(w, "    </LST></Obj></Props></Obj>")
	}
	fmt.Fprintln(w, "</Objs>")
	return w.String()
}
