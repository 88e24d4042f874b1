package passes

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
)

// A TypeID names a pass type of a tenant.
type TypeID struct{ Tenant, Type string }

// An ID names a pass.
type ID struct {
	TypeID
	Serial string
}

// A TypeSetting is a pass type by the configuration.
type TypeSetting struct {
	// Key is the name of its pass key.
	Key string
	// Chain is the certificate that the keyring names for the key, and what follows it; it
	// counts until the tenant gives the type one. May be empty.
	Chain []*x509.Certificate
}

// Settings are what the configuration says.
type Settings struct {
	// PublicURL is where devices reach this service: https://host, without a path.
	PublicURL string
	// Types are the pass types that there are.
	Types map[TypeID]TypeSetting
	// Push says that changes are to be pushed; if not, no entries are written.
	Push bool
}

func (s Settings) check() error {
	var wrong []error
	if u, err := url.Parse(s.PublicURL); err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		wrong = append(wrong, errors.New("public URL must be https:// and a host, without a path"))
	}
	for id, t := range s.Types {
		if t.Key == "" {
			wrong = append(wrong, fmt.Errorf("pass type %s of tenant %s has no key", id.Type, id.Tenant))
		}
	}
	return errors.Join(wrong...)
}

// webServiceURL is what passes of a tenant name as their web service.
func (s *Settings) webServiceURL(tenant string) string {
	return s.PublicURL + "/api/" + url.PathEscape(tenant) + "/passes/apple"
}
