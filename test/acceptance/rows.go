// Package acceptance holds the requirements of the five services that this
// relay replaces, row by row, and the suite that shows which of them it keeps.
//
// The rows are data (this file); the tests are named after the row that they
// show, as in TestP10_SubdomainsAreListedOneByOne, and each asks a real relay
// over SMTP: all services in this process, a DNS and mail exchangers of the
// test's own. docs/REQUIREMENTS.md is made of both (page.go). A row that claims
// a test that does not exist, a test that names no row, and a page that is stale
// fail the suite.
//
// There are two relays, one for each position of the switches on which
// institutions differ: open and strict. They are started once and shared; every
// test has addresses of its own. Whatever is refused anywhere is held to the
// same: a reference first, short, and nothing of ours in it.
package acceptance

// Status is how far a row is kept.
type Status string

// The statuses of a row.
const (
	Held      Status = "held"      // shown by this suite
	Partly    Status = "partly"    // shown by this suite, but for what is missing
	Elsewhere Status = "elsewhere" // shown by other tests of the project
	NotYet    Status = "not yet"
)

// Row is one requirement.
type Row struct {
	// ID is a letter for the service it comes from, and a number.
	ID string
	// Text is what is wanted.
	Text string
	// Status says how far it is kept, Missing what is not.
	Status  Status
	Missing string
	// Tests show it: a name of this package, or "folder.Name" of another.
	Tests []string
}

func held(id, text string, tests ...string) Row {
	return Row{ID: id, Text: text, Status: Held, Tests: tests}
}

func partly(id, text, missing string, tests ...string) Row {
	return Row{ID: id, Text: text, Status: Partly, Missing: missing, Tests: tests}
}

func elsewhere(id, text string, tests ...string) Row {
	return Row{ID: id, Text: text, Status: Elsewhere, Tests: tests}
}

func notYet(id, text string) Row { return Row{ID: id, Text: text, Status: NotYet} }

// Services are where the rows come from, by their letter.
var Services = []struct{ Letter, Name string }{
	{"P", "University of Pennsylvania, SMTP-Relay"},
	{"W", "UW-Madison, unauthenticated relay"},
	{"S", "UW-Madison, authenticated relay"},
	{"M", "University of Michigan, mail relay"},
	{"X", "Exchange SMTP relay"},
}

// Switch is something that one institution wants and another does not.
type Switch struct {
	// About is what they disagree on, Key what sets it.
	About, Key string
	// Positions are both, with the rows that want them.
	Positions [2]string
	// Missing says what cannot be set yet.
	Missing string
	// Tests show both positions.
	Tests []string
}

// Switches are the contradictions among the rows.
var Switches = []Switch{
	{"hosted mail from the campus", "policy.hosted_from_campus", [2]string{"whole campus (P8, W15)", "approved addresses only (M5)"}, "", []string{"TestM5_ApprovedAddressesOnly"}},
	{"TLS 1.0 and 1.1", "listeners[].tls_minimum", [2]string{"spoken (W25)", "1.2 and later (S2), or 1.3"}, "", []string{"TestW25_OldTLSWhereItIsNamed", "TestS2_TLS12AndLater"}},
	{"implicit TLS", "listeners[].mode", [2]string{"offered (S1)", "not offered (X12)"}, "", []string{"TestX12_ImplicitTLSIsAChoice"}},
	{"who need not authenticate", "policy.must_authenticate", [2]string{"known addresses (W21, M1, X22)", "nobody without an exemption (P16, S1)"}, "", []string{"TestP20_ExemptionFromAuthentication"}},
	{"stopping a sender", "block, device suspend", [2]string{"suspension, lifted with a ticket (P29, P30)", "block without notice (M9)"}, "", []string{"TestM9_BlockWithoutNotice", "TestP14_StatesOfARegistration", "TestP30_LiftedWithATicket"}},
	{"newsletters", "policy.bulk", [2]string{"go (X7)", "through the list service (P33, M4)"}, "", []string{"TestX7_NewslettersAreAChoice"}},
	{"wildcards among the senders", "policy.sender_wildcards", [2]string{"refused (S27)", "whole domains"}, "", []string{"TestS27_NoWildcardSenders", "TestS27_WildcardsAreAChoice"}},
	{"forward-confirmed names", "policy.fcrdns", [2]string{"wanted (P22, P23)", "not asked for"}, "", []string{"TestP23_WrongNameReachesHostedDomainsOnly"}},
	{"where a login holds", "policy.address_lock", [2]string{"anywhere (P26)", "at its addresses (S7)"}, "", []string{"TestS7_AddressAndLogin"}},
	{"reverse-path", "policy.sender_must_be_hosted", [2]string{"any valid one (P27)", "of a hosted domain (W23)"}, "", []string{"TestW23_SenderInAHostedDomain"}},
	{"From field", "policy.from_field", [2]string{"flagged (P27)", "refused (P27)"}, "", []string{"TestP27_ValidSender"}},
	{"networks of many machines", "policy.nat, policy.cloud", [2]string{"must authenticate (P24, P26)", "need not"}, "", []string{"TestP24_NATProvesNothing", "TestP26_CloudNeedsAuthentication"}},
	{"“&” in HELO", "policy.helo_ampersand", [2]string{"accepted, not shown", "refused (W24)"}, "", []string{"TestW24_AmpersandInHELO"}},
	{"suspension when reports cannot be delivered", "lifecycle.reports", [2]string{"yes (P29)", "no"}, "", []string{"TestP29_UndeliverableReports"}},
	{"what looks compromised", "lifecycle.anomaly", [2]string{"stopped (M22)", "told only, or nothing"}, "", []string{"TestM22_AnomalyIsStopped"}},
}

// Rows are all requirements, in order.
var Rows = []Row{
	held("P1", "Devices that cannot authenticate to the mail service can send.", "TestP1_DevicesThatCannotAuthenticate"),
	elsewhere("P2", "Only staff and faculty own what is registered, never a vendor.", "cmd/postrider.TestP2_OwnersAreStaffOrFaculty"),
	elsewhere("P3", "Mail is stored and delivered later, also after every process was killed.", "test/crashpoints.TestCrashPoints", "test/faults.TestKills"),
	held("P4", "Hosted domains go to their configured server, others by MX or address.", "TestP4_HostedByRouteAndOthersByMX", "test.TestInOneProcess"),
	held("P5", "Anywhere on the Internet, by MX preference; the next MX where one does not answer.", "TestP5_NextMXWhenOneDoesNotAnswer"),
	held("P6", "Clients with little SMTP, or a little wrong, are served; Date and Message-ID are added.", "TestP6_IncompleteClients", "services/ingress/wire.TestSloppyCommands"),
	elsewhere("P7", "Content is purged once it is settled.", "test/purge.TestDeferredBeyondTheRetention", "services/ledger.TestPurge"),
	held("P8", "A list of hosted domains is served from any campus address.", "TestP8_HostedDomainsFromTheCampus"),
	held("P9", "The list is data, holds domains outside the institution's own, and changes live.", "TestP9_HostedListChangesLive", "TestP8_HostedDomainsFromTheCampus"),
	held("P10", "Hosted domains match exactly; a subdomain is listed or is not hosted.", "TestP10_SubdomainsAreListedOneByOne"),
	held("P11", "Recipients anywhere only for registered devices; others are shown where to register.", "TestP11_AnywhereOnlyForRegisteredDevices"),
	held("P12", "The name of a device is what is registered, its address follows the DNS; changes are audited.", "TestP12_TheNameIsRegistered", "TestP12_TheAddressFollowsTheDNS", "TestP12_ADeviceIsRenamed", "cmd/postrider.TestP12_Renaming", "cmd/postrider.TestHistoryOfMoves"),
	elsewhere("P13", "Nothing becomes active without a request.", "cmd/postrider.TestP13_NothingIsActiveWithoutARequest"),
	held("P14", "A registration goes through states, with actor and time.", "TestP14_StatesOfARegistration", "TestM26_OnlyAfterActivation", "cmd/postrider.TestP14_EveryStepHasActorAndTime"),
	held("P15", "Who is not registered is pointed to the registration and to nothing else.", "TestP11_AnywhereOnlyForRegisteredDevices"),
	elsewhere("P16", "Login with a Kerberos principal; no password is kept here.", "test/interop.TestAuthorities", "test/interop.TestKerberosAnswers", "test/interop.TestSpoofedKDC"),
	held("P17", "User names with a slash stay as they are; with and without the realm they are one.", "TestP17_UserNamesWithASlash", "test/interop.TestAuthorities"),
	elsewhere("P18", "Unit administrators request principals for their own unit.", "cmd/postrider.TestP18_AdministratorsAskForTheirUnit"),
	elsewhere("P19", "The life of a principal stays with its issuer.", "cmd/postrider.TestP19_TheIssuerIsShownNeverTheSecret"),
	held("P20", "A device that cannot authenticate is exempt, with a reason and an end; who is shows in a report.", "TestP20_ExemptionFromAuthentication", "TestX19_WhoNeedNotLogIn"),
	held("P21", "Login on TLS only.", "TestP21_AuthenticationOnTLSOnly"),
	held("P22", "The DNS leads from the address to the registered name and back.", "TestP22_ForwardConfirmedName", "shared/dnsx.TestForwardConfirmed", "services/ingress.TestNameIsWaitedFor"),
	held("P23", "With a wrong name, hosted domains only; without an answer of the DNS the last good one for 72 h, else later; ranges and logins are exempt.", "TestP23_TheLastGoodAnswerHolds", "TestP23_WrongNameReachesHostedDomainsOnly", "TestP22_ForwardConfirmedName"),
	held("P24", "An address behind which many machines are proves nothing.", "TestP24_NATProvesNothing", "cmd/postrider.TestDevicePlaces"),
	held("P25", "From there a login is needed for recipients anywhere.", "TestP25_NATWithAuthentication"),
	held("P26", "From cloud networks likewise.", "TestP26_CloudNeedsAuthentication"),
	held("P27", "A valid sender in envelope and header, who can be reached.", "TestP27_ValidSender", "TestP27_SenderCanBeReached"),
	elsewhere("P28", "What cannot be delivered is reported to its sender, from the null path, signed.", "test.TestInOneProcess", "services/bounce.TestReport"),
	held("P29", "Reports that cannot be delivered lead to suspension, after a warning; never of many at once.", "TestP29_UndeliverableReports", "TestP29_ManyAtOnce", "services/ledger.TestUse"),
	held("P30", "A suspension is lifted with a ticket.", "TestP30_LiftedWithATicket", "cmd/postrider.TestDeviceBulk", "cmd/postrider.TestP30_NoFileLiftsASuspension"),
	elsewhere("P31", "Senders are functions or lists, not persons.", "test/interop.TestDirectoryOfSenders", "services/policy/review.TestSenders"),
	held("P32", "Not from homes.", "TestP32_NoHomes", "TestW1_OnlyTheCampus", "cmd/postrider.TestDevicePlaces"),
	held("P33", "Not for bulk mail; the list service is named; recipients are counted by the hour.", "TestP33_RecipientsAreCountedByTheHour", "TestW45_KindsOfBulk", "TestX7_NewslettersAreAChoice"),
	notYet("P34", "A sheet of settings for each registration."),
	notYet("P35", "Guides by class of device."),

	held("W1", "Only the campus; others are pointed to the authenticated service.", "TestW1_OnlyTheCampus"),
	held("W2", "Not for workstations.", "TestW2_NoWorkstations", "cmd/postrider.TestM3_WorkstationsAreNotRegistered", "cmd/postrider.TestDevicePlaces"),
	held("W3", "Not for mail servers: who approves sees whether one answers there.", "TestW3_MailServerAnswers", "cmd/postrider.TestReviewIsShown"),
	held("W4", "Mail that came through many foreign servers is flagged.", "TestW4_ForeignHopsAreMarked"),
	held("W5", "Programs send with a plain SMTP library.", "TestW5_AnSMTPLibraryIsEnough"),
	held("W6", "Recipients need not be known beforehand.", "TestW6_RecipientsNobodyListed"),
	notYet("W7", "Listeners face the campus only."),
	elsewhere("W8", "A request says why other ways will not do.", "cmd/postrider.TestW8_WhyNoOtherWay"),
	elsewhere("W9", "A request says what for.", "cmd/postrider.TestW9_PurposeIsShownToTheApprover"),
	elsewhere("W10", "Only paid faculty and staff may ask.", "cmd/postrider.TestW10_StaffAndFacultyMayAsk"),
	elsewhere("W11", "Terms of use are accepted, in a version.", "cmd/postrider.TestW11_TermsAreAcceptedInAVersion", "services/policy/lifecycle.TestTerms"),
	held("W12", "Content is scanned: tagged, held or refused.", "TestW12_TaggedHeldOrRefused"),
	held("W13", "Health data never leaves in clear.", "TestW13_HealthDataNeverInClear", "services/delivery.TestPHIIsNeverInClear", "services/delivery.TestPHIGoesOverVerifiedTLS"),
	notYet("W14", "Evidence of a device and a span of time can be handed over."),
	held("W15", "Hosted recipients need no registration.", "TestP8_HostedDomainsFromTheCampus", "TestM5_ApprovedAddressesOnly"),
	held("W16", "Several addresses in one registration, each with its own state.", "TestW16_AddressesHaveTheirOwnState"),
	held("W17", "Owners change and delete what is theirs.", "TestW17_ChangesHaveEffectAtOnce", "cmd/postrider.TestW17_AdministratorsOfAUnit"),
	held("W18", "The unused is retired, after a notice.", "TestW18_UnusedIsRetired", "services/policy/lifecycle.TestLife"),
	held("W19", "Every refusal has a reference, and those about who may send lead to help.", "TestW19_EveryRefusalHasAReference", "TestW19_TooManyMistakes", "TestW19_RefusedContent", "TestP11_AnywhereOnlyForRegisteredDevices", "TestW36_OutsideGoesToTheAuthenticatedService"),
	notYet("W20", "A name and port 25."),
	held("W21", "No login where the address is known; an empty one gets a clear answer.", "TestW21_UserAndPasswordLeftBlank"),
	held("W22", "With and without TLS on one listener.", "TestW22_WithAndWithoutTLS"),
	held("W23", "Senders of a hosted domain only, with a mailbox.", "TestW23_SenderInAHostedDomain", "TestW23_UnknownMailbox"),
	held("W24", "HELO with “&” is accepted and not shown, or refused.", "TestW24_AmpersandInHELO", "TestW24_CommandsDoNotShowIt", "services/ingress.TestW24_Ampersand"),
	held("W25", "TLS 1.0 and 1.1 for old devices.", "TestW25_OldTLSWhereItIsNamed", "services/ingress.TestTLSFloor"),
	notYet("W26", "Who still uses old TLS is known, and refused in stages."),
	elsewhere("W27", "Certain domains are never served in clear.", "services/delivery.TestNeverInClearWhereTLSIsRequired", "test.TestInOneProcess"),
	notYet("W28", "The list of those domains is published."),
	notYet("W29", "Two names for one service."),
	notYet("W30", "Mail leaves from known addresses."),
	notYet("W31", "SPF names these addresses, and is watched."),
	elsewhere("W32", "TLS outwards where it is offered.", "services/delivery.TestOpportunisticFallsBackToClear"),
	elsewhere("W33", "TLS level by domain, verified where wanted.", "services/delivery.TestVerifyRefusesTheWrongCertificate", "services/delivery.TestVerify"),
	held("W34", "The size limit is announced and answered at MAIL.", "TestW34_SizeIsAnnounced"),
	held("W35", "Not from outside.", "TestW1_OnlyTheCampus"),
	held("W36", "Applications outside are pointed to the authenticated service.", "TestW36_OutsideGoesToTheAuthenticatedService"),
	held("W37", "Who may send as whom is registered.", "TestW37_NoArbitraryFrom", "TestS3_ReversePathAndFromField"),
	held("W38", "Alignment with DMARC is shown at registration.", "TestW38_AlignmentIsShown", "cmd/postrider.TestReviewIsShown"),
	elsewhere("W39", "Everything is signed for the relay's domain.", "test.TestInOneProcess", "services/signer.TestSignaturesVerify"),
	notYet("W40", "Signatures for other domains are off unless registered."),
	elsewhere("W41", "A signature that is there survives.", "services/signer.TestSignedBefore"),
	held("W42", "Third parties send as subdomains only.", "TestW42_TheApexIsForInternalOwners", "cmd/postrider.TestW42_ThirdPartiesAreRegisteredForSubdomains"),
	held("W43", "Unsubscribe fields pass untouched and signed; none are added, and owners of bulk without them hear of it.", "TestW43_UnsubscribeFieldsPass", "TestW43_BulkWithoutUnsubscribe"),
	held("W44", "A block by address holds at once, in open sessions, too.", "TestW44_BlockHoldsInOpenSessions"),
	held("W45", "The kinds of traffic are named, and bulk is held to its rule.", "TestW45_KindsOfBulk"),

	held("S1", "Login on the relay, submission and implicit TLS ports.", "TestS1_LoginOnThreePorts"),
	held("S2", "TLS 1.2 and later.", "TestS2_TLS12AndLater"),
	held("S3", "Reverse-path and From field are known addresses; the answer says which is not.", "TestS3_ReversePathAndFromField"),
	held("S4", "At most ten addresses.", "TestS4_AtMostTenSenders", "cmd/postrider.TestDeviceForm"),
	elsewhere("S5", "Senders are in the directory, and looked up again.", "test/interop.TestDirectoryOfSenders", "services/policy/review.TestSenders"),
	elsewhere("S6", "A domain is sent as only where that is shown to be allowed.", "cmd/postrider.TestS6_ADomainHasToAllowIt", "services/policy/review.TestSenderProof"),
	held("S7", "Static addresses: a login holds only there.", "TestS7_AddressAndLogin", "cmd/postrider.TestS7_WhoIsHeldToHisAddressesHasSome"),
	held("S8", "A size limit of its own for each device.", "TestS8_SizeOfADevice"),
	held("S9", "A hundred messages of one session, and the next one in another.", "TestS9_MessagesOfASession", "TestS9_RecipientsOfADevice", "TestS9_RecipientsOfAll"),
	elsewhere("S10", "A contract stands behind an external owner.", "cmd/postrider.TestS10_ThirdPartiesNeedAContract"),
	elsewhere("S11", "Terms of use, as W11.", "cmd/postrider.TestW11_TermsAreAcceptedInAVersion"),
	held("S12", "Scanning, as W12.", "TestW12_TaggedHeldOrRefused"),
	held("S13", "Health data, as W13; erased once it is settled.", "TestS13_HealthDataIsErasedAtOnce", "TestW13_HealthDataNeverInClear", "services/ledger.TestEraseAtOnce"),
	notYet("S14", "Usage by owner, by the hour and the year."),
	notYet("S15", "Quotas, and who exceeds them."),
	notYet("S16", "Volume is watched."),
	notYet("S17", "Looking at mail data is itself audited."),
	notYet("S18", "Violations are handed on, as W14."),
	elsewhere("S19", "An approval has a reason.", "cmd/postrider.TestS19_TheDecisionIsKept"),
	elsewhere("S20", "The form: unit.", "cmd/postrider.TestS20_UnitIsRequired"),
	elsewhere("S21", "The form: service owner.", "cmd/postrider.TestS21_ServiceOwnerExists"),
	elsewhere("S22", "The form: reverse-path.", "cmd/postrider.TestS22_SendersAreRequired"),
	elsewhere("S23", "The form: From field where it differs.", "cmd/postrider.TestS23_HeaderSendersAreHeldToTheSame"),
	elsewhere("S24", "The form: addresses.", "cmd/postrider.TestS24_AddressesAreRequiredAndOurs"),
	elsewhere("S25", "The form: name of the application.", "cmd/postrider.TestS25_NamesOfApplicationsAreUnique"),
	elsewhere("S26", "The form: audience.", "cmd/postrider.TestS26_AudienceDrivesTheRulesForBulk"),
	held("S27", "No wildcards among the senders.", "TestS27_NoWildcardSenders", "TestS27_WildcardsAreAChoice", "cmd/postrider.TestSenderWildcards"),
	elsewhere("S28", "An answer within three working days.", "cmd/postrider.TestOverdueRequests", "shared/registry.TestAfterWorkingDays"),
	held("S29", "A secret is made after the approval and shown once; two hold during rotation, an ended one does not.", "TestS29_TwoSecretsDuringRotation", "cmd/postrider.TestS29_CredentialsByCommand"),
	held("S30", "A user name is not a sender's address.", "TestS30_UserNameIsNotTheSender", "TestS30_NobodyActsForAnother"),
	held("S31", "SPF of the sender's domain includes us, or the device is not activated; who ceases to is told.", "TestS31_SPFBeforeActivation", "TestS31_OwnersHearWhenSPFFails", "services/policy/review.TestIncludes"),
	elsewhere("S32", "The addresses of the service are published.", "cmd/postrider.TestAddresses", "shared/config.TestPublished"),
	held("S33", "Owners see their own login failures.", "TestS33_OwnersSeeTheirLoginFailures"),
	held("S34", "… and the port of their last attempts, or that there were none.", "TestS34_PortOfTheLastAttempts"),
	held("S35", "… and version and cipher of TLS, or what kept it from being agreed on.", "TestS35_TLSOfTheLastAttempts", "services/ingress/wire.TestLeft"),
	held("S36", "Every fault has a reply of its own, and is in the owner's log; “nothing seen” is shown as such.", "TestS36_EachFaultHasItsOwnReply", "TestS36_EachFaultIsInTheOwnersLog", "TestS34_PortOfTheLastAttempts"),
	elsewhere("S37", "Ciphers of old devices: twelve of the fourteen.", "services/ingress.TestTLSFloor"),
	elsewhere("S38", "Weak ciphers only where named.", "services/ingress.TestTLSFloor"),
	held("S39", "One application is stopped, not its address.", "TestS39_OneCredentialIsStopped"),
	notYet("S40", "Old and new name at the same time."),
	held("S41", "Only those on the old name are told.", "TestS41_TheBooksKnowTheListener", "cmd/postrider.TestNotify"),
	held("S42", "Changes of addresses are told before.", "TestS42_EffectiveDayIsKeptAndSent", "cmd/postrider.TestAddresses"),
	held("S43", "A role address in every notice.", "TestS43_RoleAddress"),
	elsewhere("S44", "Draining one of several loses no session.", "services/ingress.TestShutdown", "services/ingress/wire.TestShutdownBusy"),

	held("M1", "Machines that cannot authenticate have a server.", "TestP1_DevicesThatCannotAuthenticate", "cmd/postrider.TestW8_WhyNoOtherWay"),
	held("M2", "Not for who can send himself, as W3.", "TestW3_MailServerAnswers"),
	held("M3", "Not for workstations.", "TestW2_NoWorkstations", "cmd/postrider.TestM3_WorkstationsAreNotRegistered"),
	held("M4", "Not for bulk, where that is set.", "TestX7_NewslettersAreAChoice"),
	held("M5", "Approved addresses only, hosted recipients included.", "TestM5_ApprovedAddressesOnly"),
	elsewhere("M6", "Owners are units.", "cmd/postrider.TestM6_OwnersAreUnits"),
	elsewhere("M7", "Only the institution's addresses can be registered.", "cmd/postrider.TestM7_OnlyTheInstitutionsAddresses"),
	elsewhere("M8", "Policy is accepted, as W11.", "cmd/postrider.TestW11_TermsAreAcceptedInAVersion"),
	held("M9", "A block without notice, audited.", "TestM9_BlockWithoutNotice", "TestW44_BlockHoldsInOpenSessions"),
	notYet("M10", "A registration on paper."),
	held("M11", "Static addresses; pools prove nothing.", "TestM11_NoAddressPools", "cmd/postrider.TestM7_OnlyTheInstitutionsAddresses"),
	held("M12", "Several addresses in one registration.", "TestM12_SeveralAddresses"),
	held("M13", "One main contact, and a backup.", "TestM13_BackupHearsToo"),
	elsewhere("M14", "A contact should be a group.", "cmd/postrider.TestContactAdvice"),
	held("M15", "Contacts are on the notice list.", "TestM15_ContactsAreInTheNoticeGroup"),
	held("M16", "They are put there, by us.", "TestM16_JoinedByTheRelay", "services/policy/lifecycle.TestRosterConverges"),
	held("M17", "Notices reach each, and that is known.", "TestM17_ProofForEachContact", "cmd/postrider.TestNotify"),
	notYet("M18", "Changes show on the status page."),
	elsewhere("M19", "The form: what it is, and why it cannot authenticate.", "cmd/postrider.TestM19_WhatItIsAndWhyItCannotAuthenticate"),
	held("M20", "The form: attestation, every year.", "TestM20_AttestationIsRenewed", "cmd/postrider.TestDeviceForm"),
	elsewhere("M21", "The form: who signs.", "cmd/postrider.TestM21_FourPartsOfASignature"),
	held("M22", "What looks compromised is stopped, until somebody has looked.", "TestM22_AnomalyIsStopped", "services/policy/lifecycle.TestOdd", "services/policy/lifecycle.TestAnomaly"),
	held("M23", "Misuse ends access, as W44.", "TestW44_BlockHoldsInOpenSessions"),
	elsewhere("M24", "Contacts hear of problems.", "cmd/postrider.TestNotifyProblem", "services/policy/lifecycle.TestProblemNotice"),
	held("M25", "Activation is confirmed, address by address.", "TestM25_ActivationIsConfirmed"),
	held("M26", "Nothing before the activation, everything after.", "TestM26_OnlyAfterActivation"),
	held("M27", "Postmaster and help desk are in the texts, and the postmaster can be written to.", "TestM27_PostmasterAndHelpDesk", "TestM27_HelpInReplies", "TestS43_RoleAddress", "TestW19_EveryRefusalHasAReference"),

	held("X1", "Relay to accepted domains.", "TestX1_HostedScope", "TestP8_HostedDomainsFromTheCampus"),
	held("X2", "Relay outside.", "TestP11_AnywhereOnlyForRegisteredDevices"),
	held("X3", "Without credentials.", "TestP1_DevicesThatCannotAuthenticate"),
	held("X4", "With credentials.", "TestS1_LoginOnThreePorts"),
	held("X5", "Without a mailbox for the device.", "TestP17_UserNamesWithASlash", "TestP1_DevicesThatCannotAuthenticate"),
	elsewhere("X6", "Alerts overtake the rest.", "services/delivery.TestAlertLane"),
	held("X7", "Newsletters may go, where that is set.", "TestX7_NewslettersAreAChoice"),
	elsewhere("X8", "The trace shows every step.", "services/ledger.TestTraceTimeline", "test.TestInOneProcess"),
	elsewhere("X9", "Receive connectors can be imported.", "test/import.TestExchange", "shared/registry/translate.TestExchange", "cmd/postrider.TestImport"),
	held("X10", "No open relay, whatever the address looks like.", "TestX10_AddressTricks", "TestX10_SenderTricks", "TestX10_HostedAndOutsideInOneMessage", "TestX10_RoutesBeyondTheHostedServer", "TestX10_SubmissionPorts"),
	held("X11", "Three ways: direct to hosted domains, login on the submission port, trusted address; a relay is set up for all, or for one.", "TestX11_ThreeWays", "cmd/postrider.TestX11_OneWayOnly"),
	held("X12", "Implicit TLS is on or off.", "TestX12_ImplicitTLSIsAChoice"),
	held("X13", "Who is not registered is told the address that was seen, and where to add it.", "TestP11_AnywhereOnlyForRegisteredDevices"),
	held("X14", "Who must authenticate is told both ways out.", "TestX14_BothWaysOut", "TestX11_ThreeWays", "TestP25_NATWithAuthentication"),
	held("X15", "TLS on the wrong port is answered in words.", "TestX15_WrongPortOrEncryption", "services/ingress/wire.TestTLSMismatch"),
	held("X16", "SPF and DKIM of the sender's domain are checked.", "TestX16_SenderDomainNotAuthorised", "TestW38_AlignmentIsShown"),
	partly("X17", "Missing header fields are added.", "owners see no score", "TestP6_IncompleteClients"),
	held("X18", "Trusted addresses only: no name or sender stands for one.", "TestX18_TrustedAddressesOnly"),
	held("X19", "Who need not authenticate is reported, with what is sent by address and by login.", "TestX19_WhoNeedNotLogIn", "services/ledger.TestWays"),
	held("X20", "Usage is watched for abuse.", "TestM22_AnomalyIsStopped", "services/ledger.TestHours"),
	held("X21", "Address and login together, where registered so.", "TestX21_AddressAndLoginBoth", "TestS7_AddressAndLogin"),
	held("X22", "A printer without login or TLS reaches hosted domains and the world.", "TestX22_PrinterWithoutLoginOrTLS"),
	elsewhere("X23", "The same in one process, in containers and as services.", "test.TestAsSeparateProcesses", "test/compose.TestCompose"),
}
