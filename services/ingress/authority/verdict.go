package authority

import (
	"errors"
	"regexp"

	"github.com/go-ldap/ldap/v3"

	"github.com/postrider/postrider/shared/directory"
)

// locked says why an entry may not be used now; empty when nothing says so.
func locked(result *ldap.SimpleBindResult, err error) string {
	if result != nil {
		c, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
		if ok && c.Error >= 0 {
			return c.ErrorString
		}
	}
	var e *ldap.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.ResultCode {
	case ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation: // 389 Directory Server
		return e.Error()
	case ldap.LDAPResultInvalidCredentials:
		if m := windowsCode.FindStringSubmatch(e.Error()); m != nil {
			return windows[m[1]]
		}
	}
	return ""
}

// windowsCode is where Active Directory says in a diagnostic message what it
// means: "80090308: LdapErr: DSID-0C09044E, comment: …, data 775, v2580".
var windowsCode = regexp.MustCompile(`, data ([0-9a-f]+),`)

// windows are the codes of accounts that may not be used (WinError.h).
var windows = map[string]string{
	"530": "not at this time", "531": "not from here", "532": "password expired", "533": "account disabled",
	"701": "account expired", "773": "password must be changed", "775": "account locked out",
}

// verdict reads the error of a user's bind (RFC 4511 appendix A).
func verdict(err error, dn string) error {
	switch {
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication):
		return refusal(Wrong, "%s: %v", dn, err)
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax):
		return refusal(Unknown, "%s: %v", dn, err)
	}
	return trouble(err, "bind as "+dn)
}

// trouble is an error that is no verdict.
func trouble(err error, doing string) error {
	if directory.Down(err) {
		return silent("%s: %v", doing, err)
	}
	return refusal(Unavailable, "%s: %v", doing, err)
}
