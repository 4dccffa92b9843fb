package config

import "slices"

// Directory is where the addresses of senders are looked up.
type Directory struct {
	// URL of the directory, as of auth.ldap.
	URL string `yaml:"url"`
	// CA is a PEM file with the certificates that the server's must come from.
	// Empty: the system's.
	CA string `yaml:"ca"`
	// Base is the entry below which addresses are searched.
	Base string `yaml:"base"`
	// Filter finds the entry of an address, for which %s stands.
	Filter string `yaml:"filter"`
	// BindDN is the entry that may search. Empty: anybody may.
	BindDN string `yaml:"bind_dn"`
	// BindPasswordFile holds its password, and is read again for every question.
	BindPasswordFile string `yaml:"bind_password_file"`
	// Clear asks without TLS. The url must be ldap:// and a loopback address.
	Clear bool `yaml:"clear"`
	// Attribute is the one whose values tell the class of an address.
	Attribute string `yaml:"attribute"`
	// Function are the values of functional accounts.
	Function []string `yaml:"function"`
	// List are those of mailing lists.
	List []string `yaml:"list"`
	// Service are those of service accounts.
	Service []string `yaml:"service"`
	// Person are the values of persons. An entry that has one of the others, too, is
	// no person's.
	Person []string `yaml:"person"`
}

// LDAP is how it is reached and searched.
func (d *Directory) LDAP() LDAP {
	return LDAP{
		URL: d.URL, CA: d.CA, Base: d.Base, Filter: d.Filter, Identity: d.Attribute,
		BindDN: d.BindDN, BindPasswordFile: d.BindPasswordFile, Clear: d.Clear,
	}
}

// String is for logs and shows no credential.
func (d Directory) String() string { return d.LDAP().String() }

// GoString keeps %#v from showing more than String.
func (d Directory) GoString() string { return d.String() }

func (d Directory) redacted() Directory {
	l := d.LDAP()
	d.URL = l.redacted().URL
	return d
}

// checkDirectory checks the directory of senders.
func (k *checker) checkDirectory(d *Directory) {
	const key = "policy.directory"
	l := d.LDAP()
	k.directory(key, &l)
	if d.Base == "" {
		k.bad(key+".base", "the entry below which addresses are found is needed (example: \"dc=campus,dc=test\")")
	}
	k.filter(key+".filter", d.Filter, "(mail=%s)")
	if !isFieldName(d.Attribute) || d.Attribute == "" {
		k.bad(key+".attribute", "%s is not the name of an attribute (example: employeeType)", quote(d.Attribute))
	}
	if len(slices.Concat(d.Person, d.Function, d.List, d.Service)) == 0 {
		k.bad(key+".person", "no value of %s tells a class; name those of persons (example: [staff, student])", d.Attribute)
	}
}
