package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

// The form of a request: its flags, and what its answers are held to.

func formFlags(c *cobra.Command, r *request) {
	a, flags := &r.form, c.Flags()
	flags.BoolVar(&r.complete, "form", false, "want every answer of the request form")
	flags.StringVar(&a.By, "by", "", "who asks (default: you)")
	flags.StringVar(&a.Affiliation, "affiliation", "", "form: what that person is, as staff, faculty, student or vendor")
	flags.StringVar(&a.Name, "application", "", "form: name of the application or device; no other has it")
	flags.StringVar(&a.Unit, "unit", "", "form: school, college, division, group or service")
	flags.StringVar(&a.ServiceOwner, "service-owner", "", "form: address of the person who owns the service")
	flags.StringVar(&a.OwnerAffiliation, "owner-affiliation", "", "form: what that person is, as staff or faculty")
	flags.StringVar(&a.Purpose, "purpose", "", "form: what for, in teaching, research or administration")
	flags.StringVar((*string)(&a.Audience), "audience", "", "form: who gets the mail: unit, users (each what this person caused), campus, lists or public; the last three are bulk")
	flags.StringVar(&a.Type, "type", "", "form: type of device or application")
	flags.StringVar(&a.WhyNoAuth, "why-no-auth", "", "form: why neither SMTP AUTH nor OAuth to the mail service would do")
	flags.StringVar((*string)(&a.RunsMTA), "runs-mta", "", "form: is it, or does it run, a mail server that can deliver? yes or no")
	flags.StringVar((*string)(&a.Workstation), "workstation", "", "form: is it somebody's workstation? yes or no")
	flags.StringVar(&a.Contract, "contract", "", "form: reference of the contract")
	flags.StringVar(&a.TermsVersion, "terms", "", "form: version of the terms of use that were accepted")
	flags.StringVar(&a.AttestedBy, "attested-by", "", "form: printed name of who vouches that the device is protected")
	flags.StringVar(&a.AttestedTitle, "attested-title", "", "form: title of that person")
	flags.StringVar(&a.Signature, "signature", "", "form: what that person signed with, or where the signed paper is")
	flags.StringVar(&r.attestedOn, "attested-on", "", "form: the day of the signature (default: today)")
	flags.StringVar(&a.Comment, "comment", "", "form: anything else")
}

// attestFlags are those of commands that renew what a form attests.
func attestFlags(c *cobra.Command, o *stepOptions) {
	c.Flags().StringVar(&o.attestedBy, "attested-by", "", "printed name of who vouches that the device is protected")
	c.Flags().StringVar(&o.attestedTitle, "attested-title", "", "title of that person")
	c.Flags().StringVar(&o.signature, "signature", "", "what that person signed with, or where the signed paper is")
	c.Flags().StringVar(&o.terms, "terms", "", "version of the terms of use that were accepted")
}

// signed notes when the form was signed, and what was.
func (r *request) signed(d *registry.Device, now time.Time) error {
	a, on := d.Application, now
	if r.attestedOn != "" {
		day, err := time.ParseInLocation(time.DateOnly, r.attestedOn, time.Local)
		if err != nil || day.After(now) {
			return usage("--attested-on: %q is no day (2026-09-30) that has been", r.attestedOn)
		}
		on = day.UTC()
	}
	if a.AttestedBy != "" {
		d.Dates.Attested, a.AttestedVersion = on, a.TermsVersion
	}
	if a.TermsVersion != "" {
		d.Dates.Accepted = on
	}
	return nil
}

// form is what the configuration wants of a request.
func (k *desk) form() registry.Form {
	return registry.Form{Affiliations: k.cfg.Registration.Affiliations, Terms: k.cfg.Registration.Terms}
}

// outdated reports a device for which other terms of use were accepted than hold
// now. What the configuration file registers is the operator's own.
func (k *desk) outdated(d *registry.Device) bool {
	now := k.cfg.Registration.Terms
	return now != "" && d.Origin != registry.OriginFile && d.State != registry.StateRetired && d.AcceptedTerms() != now
}

// checkRequest holds a request to the form, where it is complete or has to be.
func (k *desk) checkRequest(ctx context.Context, d *registry.Device, complete bool) error {
	if err := k.checkTerms(d.Application.TermsVersion); err != nil {
		return err
	}
	if complete || k.cfg.Registration.Form {
		if missing := d.Unanswered(); len(missing) > 0 {
			return usage("the form is not complete; still to say: %s", strings.Join(flagsOf(missing), ", "))
		}
		if err := k.checkAnswers(ctx, d); err != nil {
			return err
		}
	}
	return checkApplicationName(k.snapshot, d)
}

// checkTerms refuses other terms of use than hold now.
func (k *desk) checkTerms(accepted string) error {
	now, where := k.cfg.Registration.Terms, ""
	if u := k.cfg.Registration.TermsURL; u != "" {
		where = ": " + u
	}
	if now != "" && accepted != "" && accepted != now {
		return usage("--terms: %q is not the version that holds now, %s%s", accepted, now, where)
	}
	return nil
}

// checkAnswers refuses what cannot be granted.
func (k *desk) checkAnswers(ctx context.Context, d *registry.Device) error {
	if found := k.snapshot.Objections(d, k.form()); len(found) > 0 {
		return notGranted(d, found[0])
	}
	if k.cfg.Policy.AddressLock == config.Mode(authz.Enforce) && len(d.Addresses) == 0 && !d.FollowDNS { // S7
		return notGranted(d, registry.Fault{Field: "addresses", Text: "every login holds at the addresses of its device only, and it has none"})
	}
	owner := d.Application.ServiceOwner
	if at := strings.LastIndexByte(owner, '@'); !k.snapshot.Hosted(strings.ToLower(owner[at+1:])) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mailboxTimeout)
	defer cancel()
	asked := []string{mailbox.Subject}
	if k.cfg.Policy.Directory != nil {
		asked = []string{mailbox.Directory, mailbox.Subject}
	}
	if mailbox.New(k.bus, asked...).Ask(ctx, owner) == authz.StandingUnknown { // S21; a doubt refuses nobody
		return notGranted(d, registry.Fault{Field: "application.service_owner", Text: "there is no mailbox " + owner})
	}
	return nil
}

// mailboxTimeout is how long a command waits for what a mail server says of an
// address.
const mailboxTimeout = 10 * time.Second

func notGranted(d *registry.Device, f registry.Fault) error {
	hint := ""
	if f.Field == "owner" {
		hint = "\nNote it with: postrider owner add UNIT --contact ADDRESS"
	}
	return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf("%s cannot be registered: %s (%s)%s", d.Name, f.Text, flagsOf([]string{f.Field})[0], hint)}
}

// checkApplicationName refuses the name of another's application (S25).
func checkApplicationName(snapshot *registry.Snapshot, d *registry.Device) error {
	if other, ok := snapshot.SameApplication(d); ok {
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("the application %q is %s already, which is %s; give this one another name", d.Application.Name, other.Name, other.State)}
	}
	return nil
}

// flagsOf are the flags of the request command by the fields that they set.
func flagsOf(fields []string) []string {
	others := map[string]string{
		"contacts": "contact", "addresses": "address (or --proof credential)", "senders": "sender", "header_senders": "header-sender",
		"application.name": "application", "application.terms_version": "terms",
	}
	out := make([]string, len(fields))
	for i, field := range fields {
		name, ok := others[field]
		if !ok {
			name = strings.ReplaceAll(strings.TrimPrefix(field, "application."), "_", "-")
		}
		out[i] = "--" + name
	}
	return out
}

// contact notes that the requestor was spoken to (P14).
func contact(d *registry.Device, o *stepOptions) error {
	d.Dates.Contacted = o.now
	return nil
}

// attest renews what the form attests.
func attest(d *registry.Device, o *stepOptions) error {
	if o.attestedBy == "" && o.terms == "" {
		return usage("say who attests, with --attested-by, or which terms were accepted, with --terms")
	}
	if err := o.checkTerms(o.terms); err != nil {
		return err
	}
	if d.Application == nil {
		d.Application = &registry.Application{By: actor()}
	}
	a := d.Application
	if o.terms != "" {
		a.TermsVersion, d.Dates.Accepted = o.terms, o.now
	}
	a.AttestedTitle = or(o.attestedTitle, a.AttestedTitle)
	if o.attestedBy != "" {
		a.AttestedBy, a.Signature, a.AttestedVersion, d.Dates.Attested = o.attestedBy, o.signature, a.TermsVersion, o.now
	}
	return nil
}

// checkApproval holds an approval to what the configuration wants of the request
// and of who approves it.
func (k *desk) checkApproval(ctx context.Context, d *registry.Device, reason string) error {
	if err := checkApplicationName(k.snapshot, d); err != nil {
		return err
	}
	if !k.cfg.Registration.Form {
		if found := k.snapshot.ThirdParty(d); len(found) > 0 {
			return notGranted(d, found[0])
		}
		return nil
	}
	if reason == "" { // S19
		return errNeedsReason
	}
	if missing := d.Unanswered(); len(missing) > 0 {
		return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf("the form of %s is not complete: postrider device edit %s %s", d.Name, d.Name, strings.Join(missing, "=… ")+"=…")}
	}
	return k.checkAnswers(ctx, d)
}

// awaited is what a device that was approved still needs to become active. The
// review looks for it.
func (k *desk) awaited(d *registry.Device) (what []string) {
	p := &k.cfg.Policy
	if k.cfg.Sandbox {
		return nil
	}
	enforced := config.Mode(authz.Enforce)
	if p.SPF == enforced && p.SPFInclude != "" {
		var domains []string
		for _, s := range d.Senders {
			domains = append(domains, strings.ToLower(s[strings.LastIndexByte(s, '@')+1:]))
		}
		slices.Sort(domains)
		for _, domain := range slices.Compact(domains) {
			what = append(what, "include:"+p.SPFInclude+" in the SPF policy of "+domain)
		}
	}
	if p.SenderProof == enforced {
		for _, domain := range k.snapshot.Unhosted(d) {
			what = append(what, k.proofOf(d, domain))
		}
	}
	return what
}

func (k *desk) proofOf(d *registry.Device, domain string) string {
	name, text := registry.SenderProof(k.cfg.DKIM.Domain, d, domain)
	return fmt.Sprintf("the record %s TXT %q", name, text)
}

// checkEdit refuses changes after which the device could not have been approved.
func (k *desk) checkEdit(found, d *registry.Device) error {
	if err := checkApplicationName(k.snapshot, d); err != nil {
		return err
	}
	if against := k.snapshot.ThirdParty(d); len(against) > 0 && len(k.snapshot.ThirdParty(found)) == 0 {
		return notGranted(d, against[0])
	}
	return k.checkSenders(found, d)
}

// checkSenders refuses to let a device that sends send as a further domain that
// has not allowed it (S6).
func (k *desk) checkSenders(found, d *registry.Device) error {
	if k.cfg.Policy.SenderProof != config.Mode(authz.Enforce) || !d.State.Holds() {
		return nil
	}
	had := k.snapshot.Unhosted(found)
	var faults []error
	for _, domain := range k.snapshot.Unhosted(d) {
		if (d.Owner != found.Owner || !slices.Contains(had, domain)) && !k.snapshot.Proved(d, domain) {
			faults = append(faults, fmt.Errorf("%s is not hosted and has not allowed it. Publish %s, and request a device for it", domain, k.proofOf(d, domain)))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf("%s: %w", d.Name, errors.Join(faults...))}
}
