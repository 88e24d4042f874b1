package access

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// DefaultLeeway is what the configuration sets where the operator says nothing.
	DefaultLeeway = 10 * time.Second
	// MaxLeeway is the most by which a client's clock may differ from ours.
	MaxLeeway = 30 * time.Second
	// LifetimeCeiling is the longest life of a token that may be configured. A bearer
	// token cannot be taken back; it can only end.
	LifetimeCeiling = 24 * time.Hour
	// MaxIdentifier bounds iss, aud, sub, jti and kid, in bytes of UTF-8. OpenID
	// Connect Core 1.0, 2 has the same bound for sub.
	MaxIdentifier = 255
)

// Client is a configured client: whom it acts for, how it proves itself, and what it
// may do.
type Client struct {
	Issuer      string        // iss, exactly as its tokens have it; no two clients have the same
	Tenant      string        // the tenant it belongs to; a tenant may have several clients
	Audience    string        // aud: what its tokens must be addressed to, alone
	Keys        []Key         // at least one
	Rights      []Right       // what it may do; none is allowed, and allows nothing
	MaxLifetime time.Duration // exp - iat at most; above 0, up to LifetimeCeiling
	Leeway      time.Duration // by which the clocks may differ, in either direction; 0 to MaxLeeway, taken as it is

	RequireKeyID   bool // refuse tokens without kid, even if there is only one key
	RequireType    bool // refuse tokens without typ
	RequireTokenID bool // refuse tokens without jti
}

// client is a Client that has passed its checks, with its keys by kid.
type client struct {
	Client
	keys map[string]verificationKey
}

// newClient checks c and copies what it needs of it. The error joins all that is
// wrong, each naming the client.
func newClient(c Client) (*client, error) {
	own := &client{Client: c, keys: make(map[string]verificationKey, len(c.Keys))}
	own.Keys, own.Rights = nil, slices.Clone(c.Rights)
	problems := slices.Concat(c.checkNames(), c.checkTimes(), own.addKeys(c.Keys))
	for _, r := range c.Rights {
		if _, err := ParseRight(string(r)); err != nil {
			problems = append(problems, fmt.Errorf("rights: %w", err))
		}
	}
	for i, p := range problems {
		problems[i] = fmt.Errorf("client with iss %q: %w", c.Issuer, p)
	}
	return own, errors.Join(problems...)
}

func (c Client) checkNames() (problems []error) {
	for _, n := range []struct{ name, value string }{
		{"iss", c.Issuer}, {"tenant", c.Tenant}, {"aud", c.Audience},
	} {
		if !isIdentifier(n.value) {
			problems = append(problems, fmt.Errorf("%s is empty, longer than %d bytes, or holds a character that does not print", n.name, MaxIdentifier))
		}
	}
	return problems
}

func (c Client) checkTimes() (problems []error) {
	if c.MaxLifetime <= 0 || c.MaxLifetime > LifetimeCeiling {
		problems = append(problems, fmt.Errorf("maximum token lifetime is %v; it must be above 0 and at most %v (15 minutes is usual)", c.MaxLifetime, LifetimeCeiling))
	}
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		problems = append(problems, fmt.Errorf("leeway is %v; it must be between 0 and %v: set the clocks rather", c.Leeway, MaxLeeway))
	}
	return problems
}

func (c *client) addKeys(keys []Key) (problems []error) {
	if len(keys) == 0 {
		return []error{errors.New("has no key, so no token of it could be verified")}
	}
	for _, k := range keys {
		own, err := newVerificationKey(k)
		switch _, taken := c.keys[k.ID]; {
		case err != nil:
			problems = append(problems, fmt.Errorf("kid %q: %w", k.ID, err))
		case taken:
			problems = append(problems, fmt.Errorf("kid %q is given to more than one key", k.ID))
		case k.ID == "" && (len(keys) > 1 || c.RequireKeyID):
			problems = append(problems, errors.New("a key has no kid; only the one key of a client that need not send kid can do without"))
		case k.ID != "" && !isIdentifier(k.ID):
			problems = append(problems, fmt.Errorf("kid %q is longer than %d bytes or holds a character that does not print", k.ID, MaxIdentifier))
		}
		c.keys[k.ID] = own
	}
	return problems
}

// key finds the key that a token must be signed with. kid is a map key and nothing
// more: not a file name, not an address (RFC 8725, 3.10).
func (c *client) key(h header) (verificationKey, bool) {
	if h.KeyID == nil {
		if c.RequireKeyID || len(c.keys) != 1 {
			return verificationKey{}, false
		}
		for _, k := range c.keys {
			return k, true
		}
	}
	kid, ok := text(h.KeyID)
	if !ok {
		return verificationKey{}, false
	}
	k, ok := c.keys[kid]
	return k, ok
}

// isIdentifier reports whether s can stand in a log, a record and a table: not
// empty, not over MaxIdentifier bytes, and of printing characters (no control,
// no direction mark, no space but U+0020).
func isIdentifier(s string) bool {
	if s == "" || len(s) > MaxIdentifier || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
