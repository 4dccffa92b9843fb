package translate

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/translate/connector"
)

// Exchange translates an export of Get-ReceiveConnector, in any form that
// package connector reads. Of the connectors on one port that with the narrowest
// range decides about a client, as in Exchange.
//
// Anonymous users of a connector reach the accepted domains, which are hosted
// here; an export of connectors does not name them. They reach everybody where
// the connector trusts its clients (ExternalAuthoritative with ExchangeServers),
// or is named in Options.Anywhere.
func Exchange(name string, r io.Reader, o Options) (*Result, error) {
	text, err := readAll(name, r)
	if err != nil {
		return nil, err
	}
	connectors, err := connector.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	x := &exchange{file: name, options: o, result: &Result{}, spans: spans{}}
	for i := range connectors {
		x.read(&connectors[i])
	}
	if x.options.Domain == "" {
		_, x.options.Domain, _ = strings.Cut(x.result.Hints.Hostname, ".")
	}
	if x.options.Domain == "" {
		return nil, ErrNoDomain
	}
	x.settle()
	x.left(place{file: name, text: "Get-AcceptedDomain"}, "", "the accepted domains are not in this export", "name them: postrider domain add")
	x.result.Hints.MadeUp = madeUp(x.result.Entries.Devices, x.spans)
	x.result.Lines = x.sorted()
	return x.result, nil
}

// exchange is one translation.
type exchange struct {
	sheet
	file    string
	options Options
	result  *Result
	spans   spans
	scopes  []scope
}

// scope is one range of one connector.
type scope struct {
	addresses
	text string
	at   place
	want answer
}

func (x *exchange) at(c *connector.Connector, p connector.Property) place {
	return place{x.file, p.Line, 0, c.Text("Name") + ": " + p.Name + ": " + p.Value()}
}

// read takes one connector over.
func (x *exchange) read(c *connector.Connector) {
	name := c.Text("Name")
	if name == "" {
		name = c.Text("Identity")
	}
	if strings.EqualFold(c.Text("Enabled"), "false") {
		for _, p := range c.Properties {
			x.meaningless(x.at(c, p), "the connector is switched off")
		}
		return
	}
	k := kindOf(c)
	k.anywhere = k.trusted || k.anonymous && slices.ContainsFunc(x.options.Anywhere, func(s string) bool { return strings.EqualFold(s, name) })
	for _, p := range c.Properties {
		x.property(c, p, k)
	}
	if k.anonymous && !k.anywhere {
		p, _ := c.Get("PermissionGroups")
		x.left(x.at(c, p), x.everyRange(c), "whether anonymous users may send to anybody is a right in the directory (ms-Exch-SMTP-Accept-Any-Recipient), which the export does not show",
			"look with Get-ADPermission; if they may, import again with --anywhere "+strconv.Quote(name))
	}
}

// everyRange is whom a remark about a connector concerns.
func (x *exchange) everyRange(c *connector.Connector) string {
	p, _ := c.Get("RemoteIPRanges")
	return strings.Join(p.Values, " ")
}

// kind is what the clients of a connector may.
type kind struct {
	anonymous, trusted, users bool
	anywhere                  bool
	limits                    registry.Limits
}

func kindOf(c *connector.Connector) kind {
	groups := flags(c.Text("PermissionGroups"), map[int]string{1: "AnonymousUsers", 2: "ExchangeUsers", 4: "ExchangeServers", 8: "ExchangeLegacyServers", 16: "Partners", 32: "Custom"})
	auth := flags(c.Text("AuthMechanism"), map[int]string{1: "Tls", 2: "Integrated", 4: "BasicAuth", 8: "BasicAuthRequireTLS", 16: "ExchangeServer", 32: "ExternalAuthoritative"})
	has := func(list []string, word string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
	}
	k := kind{
		anonymous: has(groups, "AnonymousUsers"), users: has(groups, "ExchangeUsers") && (has(auth, "BasicAuth") || has(auth, "BasicAuthRequireTLS") || has(auth, "Integrated")),
		trusted: has(auth, "ExternalAuthoritative") && has(groups, "ExchangeServers"),
	}
	k.limits.Size, _ = octets(c.Text("MaxMessageSize"))
	if n, err := strconv.Atoi(c.Text("MaxRecipientsPerMessage")); err == nil {
		k.limits.Recipients = n
	}
	return k
}

// flags are the words of an enumeration, or of the number that stands for them.
func flags(text string, words map[int]string) []string {
	n, err := strconv.Atoi(text)
	if err != nil {
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	var out []string
	for bit, word := range words {
		if n&bit != 0 {
			out = append(out, word)
		}
	}
	return out
}

// exact is the number of octets that Exchange shows behind a size.
var exact = regexp.MustCompile(`\(([0-9,. ]+) bytes\)`)

// octets reads "35 MB (36,700,160 bytes)", "35MB" and "36700160".
func octets(s string) (int64, bool) {
	if m := exact.FindStringSubmatch(s); m != nil {
		s = strings.NewReplacer(",", "", ".", "", " ", "").Replace(m[1])
	}
	text := strings.ToUpper(strings.ReplaceAll(s, " ", ""))
	for _, unit := range []string{"KB", "MB", "GB"} { // those of Exchange are of 1024
		if digits, ok := strings.CutSuffix(text, unit); ok {
			text = digits + unit[:1] + "iB"
		}
	}
	n, err := config.ParseSize(text)
	return int64(n), err == nil && n > 0
}

// property accounts for one setting.
func (x *exchange) property(c *connector.Connector, p connector.Property, k kind) {
	at := x.at(c, p)
	switch p.Name {
	case "RemoteIPRanges":
		x.ranges(c, p, k)
	case "Bindings":
		x.bindings(at, p, k)
	case "AuthMechanism", "PermissionGroups":
		x.rights(at, p, k)
	case "MaxMessageSize":
		if k.limits.Size == 0 {
			x.left(at, "", "this is no size", "see limits.message_size")
			return
		}
		x.result.Hints.MessageSize = min(max(x.result.Hints.MessageSize, k.limits.Size), mostSize)
		x.translated(at, "limits.size of the devices, and the largest of all limits.message_size")
	case "MaxRecipientsPerMessage":
		x.result.Hints.Recipients = max(x.result.Hints.Recipients, k.limits.Recipients)
		x.translated(at, "limits.recipients")
	case "Fqdn":
		if name := nameIn(p.Value()); name != "" && (x.result.Hints.Hostname == "" || x.result.Hints.Hostname == name) {
			x.result.Hints.Hostname = name
			x.translated(at, "relay.hostname")
			return
		}
		x.left(at, "", "a relay has one name", "see relay.hostname")
	case "MaxInboundConnectionPerSource":
		x.translated(at, "the limit of the listener")
		n, _ := strconv.Atoi(p.Value())
		for i := range x.result.Hints.Listeners {
			x.result.Hints.Listeners[i].PerAddress = max(x.result.Hints.Listeners[i].PerAddress, n)
		}
	default:
		x.other(at, p)
	}
}

// other is a setting to which nothing is left to translate.
func (x *exchange) other(at place, p connector.Property) {
	if row, ok := connectorSettings[p.Name]; ok && (row.unless == "" || !strings.EqualFold(p.Value(), row.unless)) && p.Value() != "" {
		x.left(at, row.concerns, row.why, row.do)
		return
	}
	if _, ok := connectorSettings[p.Name]; ok || connectorMachinery.MatchString(p.Name) {
		x.meaningless(at, "how Exchange works, or what it does without being told")
		return
	}
	x.left(at, "", "nothing here corresponds to it", "see what it was for")
}

// connectorSettings are those that may matter; unless is the value with which
// they do not.
var connectorSettings = map[string]struct{ unless, concerns, why, do string }{
	"RequireTLS":                                {"False", Everybody, "clients without TLS are refused there", "nothing here wants TLS of a device that does not authenticate"},
	"DomainSecureEnabled":                       {"False", "", "TLS with certificates on both sides", "nothing: it is for partners, not for devices"},
	"TlsCertificateName":                        {"", "", "the certificate of the listener", "set tls.certificate and tls.key"},
	"TlsDomainCapabilities":                     {"", "", "certificates that make a client a partner", "register the client by address, or give it a credential"},
	"MessageRateLimit":                          {"Unlimited", "", "a limit by the minute; here limits are those of a device, by the hour", "set limits.messages_per_hour of the devices"},
	"MessageRateSource":                         {"None", "", "what a limit by the minute is counted for", "set limits.messages_per_hour of the devices"},
	"Banner":                                    {"", "", "the greeting is that of relay.hostname", "nothing"},
	"DefaultDomain":                             {"", "", "addresses without a domain are completed there", "set quirks.domain of the devices that need it"},
	"ExtendedProtectionPolicy":                  {"None", "", "a proof that belongs to Windows logins", "nothing"},
	"EnableAuthGSSAPI":                          {"False", "", "AUTH by GSSAPI is not offered here", "use auth.kerberos, which asks for name and password"},
	"AuthTarpitInterval":                        {"00:00:05", "", "delays of refused logins are the relay's own here", "nothing"},
	"AdvertiseClientSettings":                   {"False", "", "settings shown to mail programs", "nothing"},
	"ServiceDiscoveryFqdn":                      {"", "", "a name for load balancing", "nothing"},
	"ProxyEnabled":                              {"False", "", "clients behind a load balancer", "set proxy_protocol_from of the listener"},
	"LiveCredentialEnabled":                     {"False", "", "logins of another service", "nothing"},
	"BareLinefeedRejectionEnabled":              {"True", Everybody, "bare line feeds are taken there, and refused here", "set quirks.repair_newlines of the devices that need it"},
	"RejectReservedTopLevelRecipientDomains":    {"False", Everybody, "some recipients are refused there", "nothing"},
	"RejectReservedSecondLevelRecipientDomains": {"False", Everybody, "some recipients are refused there", "nothing"},
	"RejectSingleLabelRecipientDomains":         {"False", Everybody, "some recipients are refused there", "nothing"},
	"AcceptConsumerMail":                        {"False", "", "mail of another service", "nothing"},
	"ProtocolLoggingLevel":                      {"None", "", "sessions are logged there", "see the ledger, and the evidence of refusals"},
	"MaxLocalHopCount":                          {"", "", "loops are refused by the number of Received fields", "nothing"},
	"Comment":                                   {"", "", "a remark", "keep it with the registration, if it says whose it is"},
}

// connectorMachinery are settings about how Exchange does its work.
var connectorMachinery = regexp.MustCompile(`^(Name|Identity|Guid|Id|DistinguishedName|AdminDisplayName|ExchangeVersion|ObjectCategory|ObjectClass|ObjectState|Object|OriginatingServer|OrganizationId|Organizational.*|When(Changed|Created).*|IsValid|` +
	`Server|TransportRole|Enabled|RunspaceId|PS.*|.*Timeout|.*Enabled|MaxHopCount|MaxInboundConnection|MaxInboundConnectionPercentagePerSource|MaxHeaderSize|MaxAcknowledgementDelay|MaxProtocolErrors|MaxLogonFailures|MessageThrottling.*|` +
	`SizeEnabled|TarpitInterval|SuppressXAnonymousTls|LongAddressesEnabled|OrarEnabled|SmtpUtf8Enabled|VirtualDirectoryName|.*UTC|Pipelining.*|Chunking.*|ConnectionInactivity.*|.*String|.*Oid|DirSyncId|ObjectClassGuid|UniqueId)$`)

// bindings are the listeners.
func (x *exchange) bindings(at place, p connector.Property, k kind) {
	for _, b := range p.Values {
		to, err := netip.ParseAddrPort(b)
		if err != nil {
			host, port, ok := cutLast(b)
			a, errA := netip.ParseAddr(strings.Trim(host, "[]"))
			n, errB := strconv.ParseUint(port, 10, 16)
			if !ok || errA != nil || errB != nil {
				x.left(at, "", b+" is no address to listen on", "see listeners")
				continue
			}
			to = netip.AddrPortFrom(a, uint16(n))
		}
		mode := config.ModeRelay
		if k.users && !k.anonymous && !k.trusted {
			mode = config.ModeSubmission
		}
		l := Listener{Name: fmt.Sprintf("%s-%d", mode, to.Port()), Address: to.String(), Mode: mode}
		if to.Addr().IsUnspecified() {
			l.Address = ":" + strconv.Itoa(int(to.Port()))
		}
		if !slices.ContainsFunc(x.result.Hints.Listeners, func(h Listener) bool { return h.Address == l.Address || h.Name == l.Name }) {
			x.result.Hints.Listeners = append(x.result.Hints.Listeners, l)
		}
	}
	x.translated(at, "listeners")
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func (x *exchange) rights(at place, p connector.Property, k kind) {
	if k.anonymous || k.trusted {
		x.translated(at, "the scope of the devices")
	} else {
		x.translated(at, "no device: anonymous clients are refused")
	}
	if k.users && p.Name == "AuthMechanism" {
		x.left(at, "", "users of the directory can authenticate", "set auth.ldap or auth.kerberos, or give applications credentials (postrider credential add)")
	}
	for _, word := range flags(p.Value(), nil) {
		if slices.Contains([]string{"Partners", "Custom", "ExchangeLegacyServers"}, word) {
			x.left(at, "", "the group "+word+" is of other mail servers", "nothing, unless devices are among them")
		}
	}
}

// ranges are the devices of a connector.
func (x *exchange) ranges(c *connector.Connector, p connector.Property, k kind) {
	at := x.at(c, p)
	if p.Cut {
		x.left(at, Everybody, "the export shows only a part of the ranges, or none", "export again with Export-Clixml, or set $FormatEnumerationLimit = -1 before Format-List")
	}
	for _, text := range p.Values {
		here := place{x.file, p.Line, 0, c.Text("Name") + ": " + text}
		a, err := parseRange(text)
		if err != nil {
			if !p.Cut {
				x.left(here, text, err.Error(), "write it as an address or a range, and import again")
			}
			continue
		}
		s := scope{addresses: a, text: text, at: here, want: answer{hosted: k.anonymous || k.trusted, beyond: k.anywhere, auth: true}}
		if s.want.admits() {
			s.want.limits = k.limits
		}
		if had := x.same(s); had != nil {
			had.want = answer{had.want.hosted || s.want.hosted, had.want.beyond || s.want.beyond, true, had.want.limits}
			if s.want.admits() {
				had.want.limits = s.want.limits
			}
			x.left(here, text, "another connector has the same range; which one answers depends on its bindings", "see that the wider of the two is meant")
			continue
		}
		x.scopes = append(x.scopes, s)
	}
}

func (x *exchange) same(s scope) *scope {
	for i := range x.scopes {
		if x.scopes[i].addresses == s.addresses {
			return &x.scopes[i]
		}
	}
	return nil
}

// settle gives each class of addresses the answer of its narrowest range.
func (x *exchange) settle() {
	for i := range x.scopes {
		for _, p := range x.scopes[i].prefixes() {
			x.spans.of(p)
		}
	}
	for _, span := range x.spans {
		var narrowest *scope
		for i := range x.scopes {
			if s := &x.scopes[i]; s.holds(span.Range) && (narrowest == nil || s.narrower(narrowest.addresses)) {
				narrowest = s
			}
		}
		span.want = narrowest.want
		if pieces := narrowest.prefixes(); len(pieces) > 1 {
			span.group = "range-" + label(narrowest.text) + "." + x.options.Domain
		}
		if name, ok := x.options.Names[span.Range.Addr()]; ok && span.Range.IsSingleIP() {
			span.name = strings.ToLower(strings.TrimSuffix(name, "."))
		}
	}
	x.spans.settle(x.options.Domain, &x.result.Entries)
	for i := range x.scopes {
		x.explain(&x.scopes[i])
	}
}

func (x *exchange) explain(s *scope) {
	for _, p := range s.prefixes() {
		span := x.spans[p]
		if p.Bits() == 0 {
			x.translated(s.at, "nothing: an address that is not named is refused here")
			if s.want.admits() {
				x.left(s.at, Unnamed, "every address may send to the accepted domains there; here only a registered one may, and networks.campus",
					"name the ranges of the institution in networks.campus, and leave mail from outside to the MX")
			}
			continue
		}
		x.translated(s.at, span.became)
		if size := s.want.limits.Size; size > 0 && size < x.result.Hints.MessageSize && strings.HasPrefix(span.became, "network") {
			x.left(s.at, "", "a network has no size of message of its own", "register its machines, or lower limits.message_size")
		}
		if span.differs != "" {
			x.left(s.at, p.String(), span.differs, "decide what it should be, and change the entry")
		}
	}
}
