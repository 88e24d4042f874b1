package config

import "slices"

// The roles.
const (
	RoleIssuer   = "issuer"   // push provisioning
	RoleMerchant = "merchant" // merchant JWTs and proximity tokens
	RolePasses   = "passes"   // Wallet passes
)

// Roles lists the roles.
func Roles() []string { return []string{RoleIssuer, RoleMerchant, RolePasses} }

// HasRole reports whether this process serves a role.
func (c *Config) HasRole(role string) bool { return slices.Contains(c.Roles, role) }

// A Listener is an address for callers under the operator's name, with the roles that it
// serves.
type Listener struct {
	Name string
	*API
	Roles []string
}

// Listeners gives the listeners that serve a role, the shared one first, and the console's own
// last.
func (c *Config) Listeners() []Listener {
	all := []Listener{{Name: "api", API: &c.API}, {Name: "merchantAPI", API: c.MerchantAPI}, {Name: "passesAPI", API: c.PassesAPI}}
	for _, r := range c.Roles {
		i := 0
		switch {
		case r == RoleMerchant && c.MerchantAPI != nil:
			i = 1
		case r == RolePasses && c.PassesAPI != nil:
			i = 2
		}
		all[i].Roles = append(all[i].Roles, r)
	}
	if c.Console.Enabled && c.Console.Listener != nil {
		all = append(all, Listener{Name: "console.listener", API: c.Console.Listener, Roles: []string{ConsoleRole}})
	}
	return slices.DeleteFunc(all, func(l Listener) bool { return len(l.Roles) == 0 })
}

// apis are the listeners' sections that are there, served or not.
func (c *Config) apis() []*API {
	return slices.DeleteFunc([]*API{&c.API, c.MerchantAPI, c.PassesAPI, c.Console.Listener}, func(a *API) bool { return a == nil })
}

// WithoutDigest is a copy that does not know which file it was read from, so that two can
// be compared by what they say.
func (c Config) WithoutDigest() Config {
	c.digest, c.ignored = "", nil
	return c
}
