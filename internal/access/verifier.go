package access

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bearer takes the token out of the Authorization headers of a request, of which
// there must be one (RFC 6750, 2.1; the scheme's name in any case, RFC 9110, 11.1).
func Bearer(headers []string) (token string, err error) {
	switch {
	case len(headers) == 0:
		return "", refuse(ReasonMissing)
	case len(headers) > 1:
		return "", refuse(ReasonScheme)
	}
	scheme, rest, found := strings.Cut(headers[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", refuse(ReasonScheme)
	}
	return strings.TrimLeft(rest, " "), nil
}

// Verifier authenticates tokens. It does not change after NewVerifier; any number of
// goroutines may use it.
type Verifier struct {
	clients map[string]*client // by iss
	now     func() time.Time
}

// NewVerifier checks the clients and copies what it needs of them. Its error says
// all that is wrong, in the operator's words. now is time.Now outside tests. Without
// clients it refuses everybody.
func NewVerifier(clients []Client, now func() time.Time) (*Verifier, error) {
	if now == nil {
		return nil, errors.New("access: no clock given")
	}
	v := &Verifier{clients: make(map[string]*client, len(clients)), now: now}
	var problems []error
	for _, c := range clients {
		own, err := newClient(c)
		if err != nil {
			problems = append(problems, err)
		}
		if _, taken := v.clients[c.Issuer]; taken {
			problems = append(problems, fmt.Errorf("client with iss %q: another client has the same iss", c.Issuer))
		}
		v.clients[c.Issuer] = own
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return v, nil
}

// Authenticate gives the caller that token proves, or an [AuthenticationError]. The
// package comment has the order of its steps. Whether the caller may do what it asks
// for is another question: [Caller.May].
func (v *Verifier) Authenticate(token string) (Caller, error) {
	// 1. Form. Nothing is believed yet.
	u, err := parse(token)
	if err != nil {
		return Caller{}, err
	}
	// 2. The key, by the two names that an unverified token may be asked for.
	c, k, err := v.choose(u)
	if err != nil {
		return Caller{}, err
	}
	// 3. Signature. It covers iss as well, which is thereby the client's, exactly.
	verified, err := u.verify(k)
	if err != nil {
		return Caller{}, err
	}
	// 4. Times.
	if err := c.checkLife(verified, v.now()); err != nil {
		return Caller{}, err
	}
	// 5. For us, and on whose behalf.
	return c.caller(verified)
}

// choose finds the client and the key that a token claims to come from.
func (v *Verifier) choose(u unverified) (*client, verificationKey, error) {
	iss, _ := text(u.claims.Issuer)
	c, ok := v.clients[iss]
	if !ok {
		return nil, verificationKey{}, refuse(ReasonUnknownIssuer)
	}
	if c.RequireType && u.header.Type == nil {
		return nil, verificationKey{}, refuse(ReasonType)
	}
	k, ok := c.key(u.header)
	if !ok {
		return nil, verificationKey{}, refuse(ReasonUnknownKey)
	}
	return c, k, nil
}

// checkLife holds iat, exp and nbf (RFC 7519, 4.1.4 to 4.1.6) against each other and
// against the clock. The leeway is for clocks that differ; it does not lengthen the
// life that a token may be given.
func (c *client) checkLife(cl claims, now time.Time) error {
	issued, ok1 := numericDate(cl.IssuedAt)
	expires, ok2 := numericDate(cl.Expires)
	notBefore, ok3 := issued, true
	if cl.NotBefore != nil {
		notBefore, ok3 = numericDate(cl.NotBefore)
	}
	switch {
	case !ok1, !ok2, !ok3, !issued.Before(expires), !notBefore.Before(expires):
		return refuse(ReasonTime)
	case expires.Sub(issued) > c.MaxLifetime:
		return refuse(ReasonTooLongLived)
	case !now.Before(expires.Add(c.Leeway)):
		return refuse(ReasonExpired)
	case issued.After(now.Add(c.Leeway)):
		return refuse(ReasonIssuedInFuture)
	case notBefore.After(now.Add(c.Leeway)):
		return refuse(ReasonNotYetValid)
	}
	return nil
}

// caller reads aud, sub and jti of claims that hold.
func (c *client) caller(cl claims) (Caller, error) {
	if aud, ok := audience(cl.Audience); !ok || aud != c.Audience {
		return Caller{}, refuse(ReasonAudience)
	}
	sub, ok := text(cl.Subject)
	if !ok || !isIdentifier(sub) {
		return Caller{}, refuse(ReasonSubject)
	}
	var jti string
	if cl.ID != nil || c.RequireTokenID {
		if jti, ok = text(cl.ID); !ok || !isIdentifier(jti) {
			return Caller{}, refuse(ReasonTokenID)
		}
	}
	return Caller{Tenant: c.Tenant, Issuer: c.Issuer, Subject: sub, TokenID: jti, rights: c.Rights}, nil
}

// audience is the only audience of a token (RFC 7519, 4.1.3): a string, or an array
// of one. A token for us and others could be sent on to us by any of the others.
func audience(v jsontext.Value) (string, bool) {
	if v.Kind() != '[' {
		return text(v)
	}
	var all []jsontext.Value
	if json.Unmarshal(v, &all) != nil || len(all) != 1 {
		return "", false
	}
	return text(all[0])
}
