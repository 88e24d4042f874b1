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

// Listeners gives the listeners for callers by the operator's name.
func (c *Config) Listeners() map[string]*API {
	all := map[string]*API{"api": &c.API}
	if c.MerchantAPI != nil {
		all["merchantAPI"] = c.MerchantAPI
	}
	if c.PassesAPI != nil {
		all["passesAPI"] = c.PassesAPI
	}
	return all
}

// RolesOn gives the roles that a listener serves, by its name.
func (c *Config) RolesOn(listener string) []string {
	var roles []string
	for _, r := range c.Roles {
		if c.listenerOf(r) == listener {
			roles = append(roles, r)
		}
	}
	return roles
}

// listenerOf names the listener that serves a role.
func (c *Config) listenerOf(role string) string {
	switch {
	case role == RoleMerchant && c.MerchantAPI != nil:
		return "merchantAPI"
	case role == RolePasses && c.PassesAPI != nil:
		return "passesAPI"
	default:
		return "api"
	}
}

// SetRoles overrides the roles, and checks anew.
func (c *Config) SetRoles(roles []string) error {
	c.Roles = roles
	return c.Check()
}

// WithoutDigest is a copy that does not know which file it was read from, so that two can
// be compared by what they say.
func (c Config) WithoutDigest() Config {
	c.digest, c.ignored = "", nil
	return c
}
