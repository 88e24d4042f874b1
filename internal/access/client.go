package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
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
// may do. It proves itself by tokens, which its keys verify; by the certificate of
// its TLS connection; or, with both, by tokens on such connections only.
type Client struct {
	Issuer string  // iss, exactly as its tokens have it; no two clients have the same
	Tenant string  // the tenant it belongs to; a tenant may have several clients
	Grants []Grant // what it may do; none is allowed, and allows nothing
	Rate   Rate    // how often it may call

	Keys        []Key            // its keys, or
	KeySet      KeySet           // where its keys are to be had
	Certificate *CertificateRule // which certificates are its own; nil: they do not matter

	// With keys only.
	Audience       string        // aud: what its tokens must be addressed to, alone
	MaxLifetime    time.Duration // exp - iat at most; above 0, up to LifetimeCeiling
	Leeway         time.Duration // by which the clocks may differ, in either direction; 0 to MaxLeeway, taken as it is
	RequireKeyID   bool          // refuse tokens without kid, even if there is only one key
	RequireType    bool          // refuse tokens without typ
	RequireTokenID bool          // refuse tokens without jti
	BoundTokens    bool          // refuse tokens that are not bound to a certificate by cnf (RFC 8705, 3)
}

// client is a Client that has passed its checks.
type client struct {
	Client
	keys        KeySet           // nil: it has no tokens
	certificate *certificateRule // nil: certificates do not matter
	grants      []grant
	limiter     *rate.Limiter // nil: no bound
}

// newClient checks c and copies what it needs of it. The error joins all that is
// wrong, each naming the client.
func newClient(c Client) (*client, error) {
	own := &client{Client: c, keys: c.KeySet, limiter: c.Rate.limiter()}
	own.Keys, own.Grants, own.Certificate = nil, nil, nil
	problems := slices.Concat(c.checkNames(), own.addProofs(c), own.addGrants(c))
	if err := c.Rate.check(); err != nil {
		problems = append(problems, err)
	}
	for i, p := range problems {
		problems[i] = fmt.Errorf("client with iss %q: %w", c.Issuer, p)
	}
	return own, errors.Join(problems...)
}

// addProofs takes over how the client proves itself.
func (c *client) addProofs(from Client) (problems []error) {
	switch {
	case len(from.Keys) > 0 && from.KeySet != nil:
		problems = append(problems, errors.New("has both keys and a key set; one is enough to know what is trusted"))
	case len(from.Keys) > 0:
		own := make(checkedKeys, len(from.Keys))
		c.keys = own
		problems = append(problems, own.add(from.Keys, c.RequireKeyID)...)
	case from.KeySet == nil && from.Certificate == nil:
		problems = append(problems, errors.New("has no key, no key set and no certificate, so it could not prove itself"))
	}
	if from.usesTokens() {
		problems = append(problems, from.checkTimes()...)
	} else if from.BoundTokens {
		problems = append(problems, errors.New("must have bound tokens, and has no key to verify a token"))
	}
	if from.Certificate == nil {
		return problems
	}
	rule, wrong := newCertificateRule(*from.Certificate)
	c.certificate = rule
	if c.keys != nil && rule.subject != "" {
		wrong = append(wrong, errors.New("names a subject, which the client's tokens do"))
	}
	for _, p := range wrong {
		problems = append(problems, fmt.Errorf("certificate rule %w", p))
	}
	return problems
}

// addGrants takes over what the client may do. A grant that can never apply is
// refused: the operator meant something else.
func (c *client) addGrants(from Client) (problems []error) {
	for _, g := range from.Grants {
		own, wrong := newGrant(g)
		c.grants = append(c.grants, own)
		if c.keys == nil && (len(g.Users) > 0 || len(g.KeyIDs) > 0 || g.SingleUse) {
			wrong = append(wrong, errors.New("is narrowed by users or kids, or for single use, and the client has no tokens"))
		}
		if fixed, ok := c.keys.(checkedKeys); ok {
			for _, kid := range g.KeyIDs {
				if _, known := fixed[kid]; !known {
					wrong = append(wrong, fmt.Errorf("is for kid %q, which is none of the client's keys", kid))
				}
			}
		}
		for _, p := range wrong {
			problems = append(problems, fmt.Errorf("grant of %q: %w", g.Right, p))
		}
	}
	return problems
}

// rivals says which of the others the same certificate would prove. With a token beside
// it, it is iss that tells clients apart.
func (c *client) rivals(others []*client) (problems []error) {
	for _, o := range others {
		if c.keys == nil && o.keys == nil && c.certificate.overlaps(o.certificate) {
			problems = append(problems, fmt.Errorf("client with iss %q: the client with iss %q has the same certificate rule", c.Issuer, o.Issuer))
		}
	}
	return problems
}

// usesTokens reports whether the client is to prove itself by tokens.
func (c Client) usesTokens() bool { return len(c.Keys) > 0 || c.KeySet != nil || c.Certificate == nil }

func (c Client) checkNames() (problems []error) {
	for _, n := range []struct {
		name, value string
		needed      bool
	}{
		{"iss", c.Issuer, true}, {"tenant", c.Tenant, true}, {"aud", c.Audience, c.usesTokens()},
	} {
		if n.needed && !isIdentifier(n.value) {
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

// add takes over the keys of a configuration.
func (f checkedKeys) add(keys []Key, requireKeyID bool) (problems []error) {
	for _, k := range keys {
		own, err := newVerificationKey(k)
		own.seen = &seen{}
		switch _, taken := f[k.ID]; {
		case err != nil:
			problems = append(problems, fmt.Errorf("kid %q: %w", k.ID, err))
		case taken:
			problems = append(problems, fmt.Errorf("kid %q is given to more than one key", k.ID))
		case k.ID == "" && (len(keys) > 1 || requireKeyID):
			problems = append(problems, errors.New("a key has no kid; only the one key of a client that need not send kid can do without"))
		case k.ID != "" && !isIdentifier(k.ID):
			problems = append(problems, fmt.Errorf("kid %q is longer than %d bytes or holds a character that does not print", k.ID, MaxIdentifier))
		}
		f[k.ID] = own
	}
	return problems
}

// key finds the key that a token must be signed with. kid is a map key and nothing
// more: not a file name, not an address (RFC 8725, 3.10).
func (c *client) key(ctx context.Context, h header) (verificationKey, error) {
	kid, ok := text(h.KeyID)
	if h.KeyID == nil && c.RequireKeyID || h.KeyID != nil && (!ok || !isIdentifier(kid)) || c.keys == nil {
		return verificationKey{}, refuse(ReasonUnknownKey)
	}
	if checked, ok := c.keys.(checkedKeys); ok {
		k, err := named(checked, kid)
		if err != nil {
			return verificationKey{}, refuse(ReasonUnknownKey)
		}
		return k, nil
	}
	k, err := c.keys.Key(ctx, kid)
	if err != nil && !errors.Is(err, ErrUnknownKey) {
		return verificationKey{}, err
	}
	own, unfit := newVerificationKey(k)
	if err != nil || unfit != nil || kid != "" && k.ID != kid || k.ID != "" && !isIdentifier(k.ID) {
		return verificationKey{}, refuse(ReasonUnknownKey)
	}
	return own, nil
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
