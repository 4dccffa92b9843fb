package config

// What is wanted of senders, of mail and of registrations.

// Policy are the switches of authorization: off, observe, enforce; true and
// false mean enforce and off.
type Policy struct {
	// HostedFromCampus admits networks.campus to hosted domains.
	HostedFromCampus Mode `yaml:"hosted_from_campus"`
	// FCrDNS wants the forward-confirmed name of a device known by its address
	// to be the registered one, for mail beyond the hosted domains.
	FCrDNS Mode `yaml:"fcrdns"`
	// SenderMustBeHosted refuses reverse-paths outside the hosted domains; off
	// still checks the syntax.
	SenderMustBeHosted Mode `yaml:"sender_must_be_hosted"`
	// SenderMustExist refuses reverse-paths without a mailbox.
	SenderMustExist Mode `yaml:"sender_must_exist"`
	// PersonalSender refuses reverse-paths that belong to a person.
	PersonalSender Mode `yaml:"personal_sender"`
	// FromField wants one From field with one address that its name does not
	// disguise.
	FromField Mode `yaml:"from_field"`
	// MustAuthenticate wants an exemption of a device that shows only its address,
	// for mail beyond the hosted domains.
	MustAuthenticate Mode `yaml:"must_authenticate"`
	// AddressLock holds every credential to the addresses of its device.
	AddressLock Mode `yaml:"address_lock"`
	// NAT wants authentication from networks.nat for mail beyond the hosted
	// domains.
	NAT Mode `yaml:"nat"`
	// Cloud does so for networks.cloud.
	Cloud Mode `yaml:"cloud"`
	// Bulk refuses devices that are registered for newsletters, calls for
	// participation and surveys, or for an audience of many at once.
	Bulk Mode `yaml:"bulk"`
	// SPF wants the SPF policy of a device's sender domains to include
	// policy.spf_include; a request that fails it is not activated.
	SPF Mode `yaml:"spf"`
	// SPFInclude is the domain to be included, as _spf.relay.campus.test.
	SPFInclude string `yaml:"spf_include"`
	// Observe are rules without a key of their own that are recorded and not
	// applied: authentication, denied-network, proof, sender-allowed,
	// internal-domain, header-from, content, limit, routing. Whom a rule would stop says
	// "postrider check observed".
	Observe []string `yaml:"observe"`
	// SenderProof wants of each domain that a device sends as that it is hosted, or
	// has a record in the DNS that allows it; a request without is not activated.
	SenderProof Mode `yaml:"sender_proof"`
	// Directory tells what kind of address a sender is, and whether it is one.
	// Default: none is asked.
	Directory *Directory `yaml:"directory"`
	// HeloAmpersand refuses "&" in HELO and EHLO; off, it is shown as "?".
	HeloAmpersand Mode `yaml:"helo_ampersand"`
	// SenderWildcards lets a registered sender be every address of a domain, as
	// *@campus.test.
	SenderWildcards bool `yaml:"sender_wildcards"`
	// ReceivedHops: mail that brings along so many Received fields, each of another
	// server, is marked in its trace; 0 marks none.
	ReceivedHops int `yaml:"received_hops"`
}

// Scan names content scanners.
type Scan struct {
	// Rspamd is the URL of an rspamd worker. A password may be in its query:
	// "?password=...".
	Rspamd string `yaml:"rspamd"`
	// Milter is the address of a milter: inet:host:port, inet:port@host or
	// unix:/path.
	Milter string `yaml:"milter"`
	// OnReject says what becomes of mail that a scanner rejects: hold, until
	// somebody decides, or refuse, with a report to its sender.
	OnReject string `yaml:"on_reject"`
	// WhenDown says what becomes of mail while a scanner does not answer: admit,
	// later (tried again for an hour, then held) or hold.
	WhenDown string `yaml:"when_down"`
	// Timeout is how long a scanner has for a message.
	Timeout Duration `yaml:"timeout"`
}

// Limits bound what is accepted. Limits per hour: none unless a device has one.
type Limits struct {
	// MessageSize of one message, at most 150MB; announced by SIZE (RFC 1870).
	MessageSize Size `yaml:"message_size"`
	// Recipients of one message; RFC 5321 §4.5.3.1.8 wants at least 100.
	Recipients int `yaml:"recipients"`
	// MessagesPerSession ends a session that has sent so many.
	MessagesPerSession SessionLimit `yaml:"messages_per_session"`
	// Unregistered bounds what each host sends by the hour that no device is
	// registered for, or that authenticated as no device.
	Unregistered HourLimit `yaml:"unregistered"`
}

// HourLimit is a limit by the hour of the clock, over all ingress instances; 0 is
// none.
type HourLimit struct {
	// MessagesPerHour is how many messages.
	MessagesPerHour int `yaml:"messages_per_hour"`
	// RecipientsPerHour is how many recipients, of all messages.
	RecipientsPerHour int `yaml:"recipients_per_hour"`
}

// SessionLimit is the number of messages in one session, by listener mode.
type SessionLimit struct {
	// Relay is for listeners of mode relay.
	Relay int `yaml:"relay"`
	// Submission is for listeners of mode submission and submissions.
	Submission int `yaml:"submission"`
}

// Registration is what is wanted of a request for a registration.
type Registration struct {
	// Form wants every answer of the request form, and a reason of who approves.
	// Otherwise only requests with --form are held to it.
	Form bool `yaml:"form"`
	// Affiliations are those of people who may ask for a registration, and who may
	// own what is registered. Empty: anybody's.
	Affiliations []string `yaml:"affiliations"`
	// Terms is the version of the terms of use that holds now. Who accepted another
	// one is told. Empty: any version will do.
	Terms string `yaml:"terms"`
	// TermsURL is where they can be read.
	TermsURL string `yaml:"terms_url"`
}

// Lifecycle is what becomes of registrations with time.
type Lifecycle struct {
	// UnusedNotice is how long a device sends nothing before its contacts are
	// told; 0 leaves the unused alone.
	UnusedNotice Duration `yaml:"unused_notice"`
	// UnusedEnd is how long it sends nothing before its registration ends.
	UnusedEnd Duration `yaml:"unused_end"`
	// Attestation is how long an attestation holds; 0 is for ever.
	Attestation Duration `yaml:"attestation"`
	// Reports that come back for good suspend the device, so many after its
	// contacts were told; 0 suspends nobody.
	Reports int `yaml:"reports"`
	// ReportsWithin is the time in which they count.
	ReportsWithin Duration `yaml:"reports_within"`
	// ReportsMost devices are suspended for that, or as anomalies, in an hour; more
	// is an alarm, and suspends nobody.
	ReportsMost int `yaml:"reports_most"`
	// Problems: so many refused attempts and failed messages of a device within a
	// day are told to its contacts, once a day; 0 tells nobody.
	Problems int `yaml:"problems"`
	// Anomaly says what becomes of a device that looks compromised, by its volume,
	// its senders, its bounces and what scanners say: observe tells its contacts and
	// the postmaster, enforce suspends it.
	Anomaly Mode `yaml:"anomaly"`
	// Probe looks daily whether a mail server answers at port 25 of a registered
	// address, and shows that to approvers.
	Probe bool `yaml:"probe"`
	// NoticeGroup is the group that the contacts of active devices join. Empty:
	// none.
	NoticeGroup string `yaml:"notice_group"`
}
