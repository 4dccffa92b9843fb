package translate

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// parameters gives a row to every line of main.cf, and makes hints of those that
// are settings here, too.
func (p *postfix) parameters() {
	p.hints()
	last := map[string]int{}
	for i, m := range p.main.Parameters {
		last[m.Name] = i
	}
	for i, m := range p.main.Parameters {
		at := placeOf(m.Place)
		_, err := p.main.Expand(m.Value)
		switch {
		case m.Fault != "":
			p.left(at, "", m.Fault, "mend it, and import again")
		case last[m.Name] != i:
			p.meaningless(at, fmt.Sprintf("line %d sets it again", p.main.Parameters[last[m.Name]].First))
		case err != nil:
			p.left(at, Everybody, err.Error(), "write the value out, and import again")
		case p.taken[m.Name] != "":
			p.translated(at, p.taken[m.Name])
		default:
			p.parameter(at, m)
		}
	}
}

// parameter is one that nothing was made of.
func (p *postfix) parameter(at place, m postfixconf.Parameter) {
	if row, ok := settings[m.Name]; ok {
		if p.get(m.Name) == "" {
			p.meaningless(at, "it is empty")
			return
		}
		p.left(at, row.concerns, row.why, row.do)
		p.tablesOf(m, row.why, row.do)
		return
	}
	if machinery.MatchString(m.Name) {
		p.meaningless(at, "how Postfix works, not what it answers")
		return
	}
	if user := p.user(m.Name); user != "" {
		p.translated(at, "part of "+user)
		return
	}
	p.left(at, "", "nothing here corresponds to it", "see what it was for")
	p.tablesOf(m, "a table of "+m.Name+", to which nothing here corresponds", "see what it was for")
}

// user is a parameter that a value of one's own is part of.
func (p *postfix) user(name string) string {
	for _, m := range p.main.Parameters {
		if postfixconf.Mentions(m.Value, name) {
			return m.Name
		}
	}
	for _, s := range p.services {
		if postfixconf.Mentions(s.Text, name) {
			return "the service " + s.Name
		}
	}
	return ""
}

// tablesOf gives a row to each line of the tables that a parameter names.
func (p *postfix) tablesOf(m postfixconf.Parameter, why, do string) {
	for _, word := range postfixconf.Fields(p.get(m.Name)) {
		r, ok := postfixconf.ParseReference(word)
		if !ok || r.Kind == postfixconf.Other {
			continue
		}
		for _, l := range p.open(r).lines {
			if !l.said {
				l.said = true
				p.left(l.place(), "", why, do)
			}
		}
	}
}

// hints are the settings that the configuration has as well.
func (p *postfix) hints() {
	h := &p.result.Hints
	if p.main.Set("myhostname") {
		h.Hostname = strings.ToLower(p.take("myhostname", "relay.hostname"))
	}
	p.taken["mydomain"] = "the domain of names that are made up"
	p.taken["smtpd_sasl_auth_enable"] = "whether clients can authenticate"
	p.taken["smtpd_restriction_classes"] = "evaluated where they are used"
	p.taken["config_directory"] = "where tables are looked for"
	h.MessageSize = p.size()
	if p.main.Set("smtpd_recipient_limit") {
		h.Recipients, _ = strconv.Atoi(p.take("smtpd_recipient_limit", "limits.recipients"))
	}
	h.Certificate, h.Key = p.certificate()
	h.Lifetime = p.duration("maximal_queue_lifetime", "delivery.lifetime")
	h.ReportLifetime = p.duration("bounce_queue_lifetime", "delivery.lifetime.report")
	for _, name := range []string{"smtp_destination_concurrency_limit", "default_destination_concurrency_limit"} {
		if n, err := strconv.Atoi(p.get(name)); err == nil && n > 0 && p.main.Set(name) && h.Connections == 0 {
			h.Connections = n
			p.taken[name] = "delivery.connections"
		}
	}
	for _, name := range []string{"smtp_bind_address", "smtp_bind_address6"} {
		if a, err := netip.ParseAddr(p.get(name)); err == nil {
			h.SourceAddresses = append(h.SourceAddresses, a)
			p.taken[name] = "delivery.source_addresses"
		}
	}
	if n, err := strconv.Atoi(p.get("smtpd_client_connection_count_limit")); err == nil && n > 0 {
		p.taken["smtpd_client_connection_count_limit"] = "limits.per_address of the listeners"
		for i := range h.Listeners {
			h.Listeners[i].PerAddress = n
		}
	}
}

// mostSize is the largest message that Postrider takes, in octets.
const mostSize = 150_000_000

func (p *postfix) size() int64 {
	const name = "message_size_limit"
	n, err := strconv.ParseInt(p.take(name, "limits.message_size"), 10, 64)
	if err != nil || n <= 0 || n > mostSize {
		p.left(p.at(name), "", fmt.Sprintf("Postrider takes messages of at most %d octets", mostSize), "see who sends larger ones")
		return mostSize
	}
	return n
}

// certificate is the chain and the key, of one file or two.
func (p *postfix) certificate() (certificate, key string) {
	certificate, key = p.get("smtpd_tls_cert_file"), p.get("smtpd_tls_key_file")
	if chain := postfixconf.Fields(p.get("smtpd_tls_chain_files")); len(chain) > 0 {
		p.taken["smtpd_tls_chain_files"] = "tls.certificate and tls.key"
		return chain[0], chain[0]
	}
	if certificate == "" {
		return "", ""
	}
	if key == "" || key == "$smtpd_tls_cert_file" {
		key = certificate
	}
	p.taken["smtpd_tls_cert_file"], p.taken["smtpd_tls_key_file"] = "tls.certificate", "tls.key"
	return certificate, key
}

// lifetime is a number with a unit; days where it has none, as lifetimes have.
var lifetime = regexp.MustCompile(`^([0-9]+)([smhdw]?)$`)

func (p *postfix) duration(name, became string) string {
	if !p.main.Set(name) {
		return ""
	}
	m := lifetime.FindStringSubmatch(p.get(name))
	if m == nil || m[1] == "0" {
		p.left(p.at(name), "", "this time cannot be taken over", "set delivery.lifetime")
		return ""
	}
	p.taken[name] = became
	switch n, _ := strconv.Atoi(m[1]); m[2] {
	case "w":
		return strconv.Itoa(7*n) + "d"
	case "":
		return m[1] + "d"
	}
	return m[1] + m[2]
}

// settings are parameters that may matter, and to which nothing here
// corresponds, or not in that form.
var settings = map[string]struct{ concerns, why, do string }{
	"local_recipient_maps":                    {Everybody, "unknown recipients are refused there", "nothing: here the next hop of the domain refuses them, and the sender gets an NDR"},
	"relay_recipient_maps":                    {Everybody, "unknown recipients are refused there", "nothing: here the next hop of the domain refuses them, and the sender gets an NDR"},
	"virtual_mailbox_maps":                    {"", "mailboxes of its own; Postrider only relays", "say which host takes this mail"},
	"virtual_alias_maps":                      {"", "recipients are rewritten there; Postrider changes no address", "let the next hop do that"},
	"virtual_maps":                            {"", "recipients are rewritten there; Postrider changes no address", "let the next hop do that"},
	"alias_maps":                              {"", "recipients of its own machine are rewritten there", "let the next hop do that"},
	"alias_database":                          {"", "recipients of its own machine are rewritten there", "let the next hop do that"},
	"canonical_maps":                          {"", "addresses are rewritten there; Postrider changes no address", "set quirks.from of the devices that need it"},
	"sender_canonical_maps":                   {"", "senders are rewritten there", "set quirks.from of the devices that need it"},
	"recipient_canonical_maps":                {"", "recipients are rewritten there; Postrider changes no address", "let the next hop do that"},
	"smtp_generic_maps":                       {"", "senders are rewritten there", "set quirks.from of the devices that need it"},
	"masquerade_domains":                      {"", "senders are rewritten there", "set quirks.from of the devices that need it"},
	"append_dot_mydomain":                     {"", "addresses are completed there", "set quirks.domain of the devices that need it"},
	"myorigin":                                {"", "addresses without a domain are completed there", "set quirks.domain of the devices that need it"},
	"always_bcc":                              {"", "copies of all mail are sent there", "the ledger says what was sent; content is not kept"},
	"sender_bcc_maps":                         {"", "copies are sent there", "the ledger says what was sent; content is not kept"},
	"recipient_bcc_maps":                      {"", "copies are sent there", "the ledger says what was sent; content is not kept"},
	"header_checks":                           {"", "content is checked or changed there", "let rspamd do that (scan.rspamd)"},
	"mime_header_checks":                      {"", "content is checked or changed there", "let rspamd do that (scan.rspamd)"},
	"nested_header_checks":                    {"", "content is checked or changed there", "let rspamd do that (scan.rspamd)"},
	"body_checks":                             {"", "content is checked or changed there", "let rspamd do that (scan.rspamd)"},
	"smtp_header_checks":                      {"", "content is changed there", "nothing: Postrider changes no content"},
	"content_filter":                          {"", "mail goes through another program", "see scan.rspamd and scan.milter"},
	"smtpd_proxy_filter":                      {"", "mail goes through another program", "see scan.rspamd and scan.milter"},
	"smtpd_milters":                           {"", "mail goes through another program; Postrider signs DKIM itself", "a scanner goes into scan.milter, a signer is not needed"},
	"non_smtpd_milters":                       {"", "mail goes through another program; Postrider signs DKIM itself", "nothing, if it is the signer"},
	"smtpd_helo_required":                     {"", "here a device may leave out HELO's politeness", "nothing"},
	"smtpd_sasl_path":                         {"", "where passwords are checked", "give the users credentials (postrider credential add), or set auth.ldap or auth.kerberos"},
	"smtpd_sasl_type":                         {"", "how passwords are checked", "give the users credentials (postrider credential add), or set auth.ldap or auth.kerberos"},
	"smtpd_sasl_local_domain":                 {"", "a realm is added to logins there", "name credentials as clients write them"},
	"smtpd_tls_security_level":                {"", "STARTTLS is always offered here, and needed for AUTH only", "nothing, unless it was encrypt"},
	"smtpd_tls_CAfile":                        {"", "client certificates are not asked for here", "nothing"},
	"smtpd_tls_protocols":                     {"", "listeners have tls_minimum instead", "set tls_minimum of the listeners"},
	"smtpd_tls_mandatory_protocols":           {"", "listeners have tls_minimum instead", "set tls_minimum of the listeners"},
	"smtpd_tls_ciphers":                       {"", "listeners have default or legacy ciphers", "set ciphers of the listeners"},
	"smtpd_tls_mandatory_ciphers":             {"", "listeners have default or legacy ciphers", "set ciphers of the listeners"},
	"smtpd_tls_exclude_ciphers":               {"", "listeners have default or legacy ciphers", "set ciphers of the listeners"},
	"smtpd_client_message_rate_limit":         {"", "limits by the hour are those of a device here", "set limits.messages_per_hour of the devices"},
	"smtpd_client_recipient_rate_limit":       {"", "limits by the hour are those of a device here", "set limits.recipients_per_hour of the devices"},
	"smtpd_client_connection_rate_limit":      {"", "connections are bounded by their number here", "see limits of the listeners"},
	"smtpd_discard_ehlo_keywords":             {"", "keywords are hidden from single devices here", "set quirks.hide_ehlo of the devices that need it"},
	"smtpd_discard_ehlo_keyword_address_maps": {"", "keywords are hidden from single devices here", "set quirks.hide_ehlo of the devices that need it"},
	"smtpd_reject_footer":                     {"", "refusals have a reference and relay.help_url here", "set relay.help_url"},
	"smtpd_authorized_xclient_hosts":          {Everybody, "XCLIENT makes the client another one; Postrider has no XCLIENT", "use proxy_protocol_from of a listener"},
	"smtpd_upstream_proxy_protocol":           {Everybody, "clients are behind a load balancer", "set proxy_protocol_from of the listener"},
	"sender_dependent_relayhost_maps":         {"", "routes hang on the sender there, here on the recipient", "see which routes are needed"},
	"sender_dependent_default_transport_maps": {"", "routes hang on the sender there, here on the recipient", "see which routes are needed"},
	"smtp_fallback_relay":                     {"", "there is no second choice of a route here", "name a host that has several addresses"},
	"fallback_transport":                      {"", "mail for unknown recipients goes elsewhere there", "let the next hop do that"},
	"relay_transport":                         {"", "the route of all relay domains", "name the next hop in the route of each hosted domain"},
	"local_transport":                         {"", "delivery to its own machine", "say which host takes this mail"},
	"virtual_transport":                       {"", "delivery to mailboxes", "say which host takes this mail"},
	"mailbox_transport":                       {"", "delivery to mailboxes", "say which host takes this mail"},
	"mailbox_command":                         {"", "delivery to mailboxes", "say which host takes this mail"},
	"minimal_backoff_time":                    {"", "delays are a list here", "see delivery.retry"},
	"maximal_backoff_time":                    {"", "delays are a list here", "see delivery.retry"},
	"queue_run_delay":                         {"", "delays are a list here", "see delivery.retry"},
	"delay_warning_time":                      {"", "senders are not told of delays", "nothing"},
	"notify_classes":                          {"", "the postmaster is not written to; see the ledger and the metrics", "nothing"},
	"inet_interfaces":                         {"", "where it listens", "see listeners"},
	"smtp_helo_name":                          {"", "the relay calls itself relay.hostname", "nothing, if it is that"},
	"smtpd_banner":                            {"", "the greeting is that of relay.hostname", "nothing"},
	"smtp_tls_mandatory_protocols":            {"", "TLS 1.2 and later towards others", "nothing, unless it allowed less"},
	"smtp_tls_protocols":                      {"", "TLS 1.2 and later towards others", "nothing, unless it allowed less"},
	"smtp_tls_CAfile":                         {"", "certificates are checked against those of the system", "add the authority to the system"},
	"smtp_tls_CApath":                         {"", "certificates are checked against those of the system", "add the authority to the system"},
	"smtp_tls_cert_file":                      {"", "Postrider shows no certificate to others", "nothing, unless a partner asks for one"},
	"smtp_tls_key_file":                       {"", "Postrider shows no certificate to others", "nothing, unless a partner asks for one"},
	"soft_bounce":                             {"", "refusals are made temporary there", "nothing"},
	"recipient_delimiter":                     {"", "addresses are not taken apart here", "nothing"},
	"proxy_interfaces":                        {"", "addresses of a load balancer", "set proxy_protocol_from of the listener"},
	"permit_mx_backup_networks":               {Everybody, "it makes a backup MX of the server", "leave that to the MX"},
	"smtpd_sasl_exceptions_networks":          {"", "AUTH is hidden from some clients there", "set quirks.hide_ehlo of the devices that need it"},
	"default_privs":                           {"", "rights of programs that mail is delivered to", "nothing"},
}

// machinery are parameters about how Postfix does its work.
var machinery = regexp.MustCompile(`^(` + strings.Join([]string{
	`compatibility_level`, `biff`, `mail_(owner|name|version|release_date|spool_directory)`, `setgid_group`,
	`.*_directory`, `.*_path`, `debug.*`, `syslog_.*`, `maillog_.*`, `.*_service_name`, `.*_cache_(database|timeout)`, `.*_timeout`, `.*_time_limit`,
	`.*_process_limit`, `.*_reject_code`, `.*_defer_code`, `.*_reject_reason`, `.*_sleep_time`, `.*_error_limit`, `mailbox_size_limit`, `virtual_mailbox_limit`,
	`berkeley_.*`, `lmdb_map_size`, `hash_queue_.*`, `ipc_.*`, `max_idle`, `max_use`, `qmgr_.*`, `in_flow_delay`, `initial_destination_concurrency`,
	`.*_(delivery_slot|minimum_delivery|recipient_refill|extra_recipient|destination_recipient_limit|rate_delay).*`, `line_length_limit`, `header_size_limit`,
	`inet_protocols`, `smtp_address_preference`, `tls_.*`, `.*_loglevel`, `.*_note_starttls_offer`, `.*_received_header`, `.*session_cache.*`,
	`smtpd_tls_(auth_only|dh1024_param_file|dh512_param_file|eecdh_grade|ask_ccert|fingerprint_digest)`, `smtpd_sasl_(security_options|tls_security_options|authenticated_header|mechanism_filter|service)`,
	`broken_sasl_auth_clients`, `disable_vrfy_command`, `smtpd_delay_(reject|open_until_valid_rcpt)`, `smtpd_peername_lookup`, `strict_.*`, `smtputf8_.*`, `enable_long_queue_ids`,
	`swap_bangpath`, `allow_percent_hack`, `smtpd_forbid_.*`, `smtpd_relay_before_recipient_restrictions`, `mynetworks_style`, `disable_dns_lookups`, `smtp_host_lookup`, `smtp_dns_support_level`,
	`smtpd_(use|enforce)_tls`, `smtp_(use|enforce)_tls`, `smtp_sasl_(auth_enable|security_options|tls_security_options|mechanism_filter|type|path)`, `default_database_type`, `address_verify_.*`,
	`smtp_connection_cache_.*`, `smtp_tls_(connection_reuse|loglevel)`, `multi_instance_.*`, `import_environment`, `export_environment`, `postscreen_.*`, `milter_.*`, `anvil_.*`, `smtpd_reject_unlisted_(sender|recipient)`,
	`queue_minfree`, `undisclosed_recipients_header`, `parent_domain_matches_subdomains`, `home_mailbox`, `readme_directory`, `html_directory`, `smtpd_client_event_limit_exceptions`, `smtpd_log_access_permit_actions`,
	`smtpd_.*_limit`, `proxy_(read|write)_maps`, `always_add_missing_headers`, `local_header_rewrite_clients`, `show_user_unknown_table_name`, `internal_mail_filter_classes`, `smtp_balance_inet_protocols`,
}, "|") + `)$`)
