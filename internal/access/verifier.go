package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Proof is what a request brings to show who sent it.
type Proof struct {
	Authorization []string            // the values of all its Authorization headers
	Certificates  []*x509.Certificate // of its TLS connection, the client's own first; the handshake proved that its key is there, and nothing else is checked yet
}

// Verifier authenticates callers. Its clients do not change after NewVerifier; any
// number of goroutines may use it.
type Verifier struct {
	clients   map[string]*client // by iss
	certified []*client          // those with a rule for certificates
	now       func() time.Time
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
		if own.certificate != nil {
			problems = append(problems, own.rivals(v.certified)...)
			v.certified = append(v.certified, own)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return v, nil
}

// Authenticate gives the caller that p proves. The package comment has the order of
// its steps. The error is an [AuthenticationError], or that of a [KeySet] whose keys
// cannot be had now. Whether the caller may do what it asks for is another question:
// [Caller.May].
func (v *Verifier) Authenticate(ctx context.Context, p Proof) (Caller, error) {
	return v.authenticate(ctx, p, nil)
}

func (v *Verifier) authenticate(ctx context.Context, p Proof, t *trace) (Caller, error) {
	if len(p.Authorization) == 0 && len(p.Certificates) > 0 {
		return v.byCertificate(p.Certificates, t)
	}
	token, err := bearer(p.Authorization)
	if t.step("header", err, "%d Authorization headers", len(p.Authorization)) != nil {
		return Caller{}, err
	}
	// 1. Form. Nothing is believed yet.
	u, err := parse(token)
	if t.step("form", err, "%d bytes", len(token)) != nil {
		return Caller{}, err
	}
	// 2. The key, by the two names that an unverified token may be asked for.
	c, k, err := v.choose(ctx, u, t)
	if err != nil {
		return Caller{}, err
	}
	// 3. Signature. It covers iss as well, which is thereby the client's, exactly.
	verified, err := u.verify(k, t)
	if err != nil {
		return Caller{}, err
	}
	// 4. Times.
	who := Caller{Tenant: c.Tenant, Issuer: c.Issuer, KeyID: k.id, grants: c.grants, payload: verified.payload}
	if err := c.checkLife(&who, verified, v.now(), t); err != nil {
		return Caller{}, err
	}
	// 5. For us, and on whose behalf.
	if err := c.checkNamesOf(&who, verified, t); err != nil {
		return Caller{}, err
	}
	// 6. On the connection that it is for.
	if err := c.checkBinding(verified.Confirmation, p.Certificates, v.now(), t); err != nil {
		return Caller{}, err
	}
	who.Certified = c.certificate != nil || c.isBound(verified.Confirmation)
	return who, nil
}

// bearer takes the token out of the Authorization headers of a request, of which
// there must be one (RFC 6750, 2.1; the scheme's name in any case, RFC 9110, 11.1).
func bearer(headers []string) (token string, err error) {
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

// choose finds the client and the key that a token claims to come from.
func (v *Verifier) choose(ctx context.Context, u unverified, t *trace) (*client, verificationKey, error) {
	iss, _ := text(u.claims.Issuer)
	c, ok := v.clients[iss]
	if err := t.step("client", must(ok, ReasonUnknownIssuer), "iss is %s", quoted(u.claims.Issuer)); err != nil {
		return nil, verificationKey{}, err
	}
	ok = !c.RequireType || u.header.Type != nil
	if err := t.step("type", must(ok, ReasonType), "typ is %s", quoted(u.header.Type)); err != nil {
		return nil, verificationKey{}, err
	}
	k, err := c.key(ctx, u.header)
	return c, k, t.step("key", err, "kid is %s", quoted(u.header.KeyID))
}

// checkLife holds iat, exp and nbf (RFC 7519, 4.1.4 to 4.1.6) against each other and
// against the clock. The leeway is for clocks that differ; it does not lengthen the
// life that a token may be given.
func (c *client) checkLife(who *Caller, cl claims, now time.Time, t *trace) error {
	issued, ok1 := numericDate(cl.IssuedAt)
	expires, ok2 := numericDate(cl.Expires)
	notBefore, ok3 := issued, true
	if cl.NotBefore != nil {
		notBefore, ok3 = numericDate(cl.NotBefore)
	}
	var reason Reason
	switch {
	case !ok1, !ok2, !ok3, !issued.Before(expires), !notBefore.Before(expires):
		reason = ReasonTime
	case expires.Sub(issued) > c.MaxLifetime:
		reason = ReasonTooLongLived
	case !now.Before(expires.Add(c.Leeway)):
		reason = ReasonExpired
	case issued.After(now.Add(c.Leeway)):
		reason = ReasonIssuedInFuture
	case notBefore.After(now.Add(c.Leeway)):
		reason = ReasonNotYetValid
	}
	who.IssuedAt, who.Expires, who.dead = issued, expires, expires.Add(c.Leeway)
	return t.step("times", must(reason == "", reason), "iat %s, exp %s, now %s; the client may give %v of life and %v of leeway",
		stamp(issued), stamp(expires), stamp(now), c.MaxLifetime, c.Leeway)
}

// stamp is a time for the operator's eyes.
type stamp time.Time

func (s stamp) String() string {
	at := time.Time(s)
	if at.IsZero() {
		return "absent or no NumericDate"
	}
	return at.UTC().Format(time.RFC3339)
}

// checkNamesOf reads aud, sub, jti and usr of claims that hold.
func (c *client) checkNamesOf(who *Caller, cl claims, t *trace) error {
	aud, ok := audience(cl.Audience)
	if err := t.step("audience", must(ok && aud == c.Audience, ReasonAudience), "aud is %s; it must be %q alone", quoted(cl.Audience), c.Audience); err != nil {
		return err
	}
	who.Subject, ok = text(cl.Subject)
	if err := t.step("subject", must(ok && isIdentifier(who.Subject), ReasonSubject), "sub is %s", quoted(cl.Subject)); err != nil {
		return err
	}
	who.TokenID, ok = text(cl.ID)
	ok = ok && isIdentifier(who.TokenID) || cl.ID == nil && !c.RequireTokenID
	if err := t.step("token-id", must(ok, ReasonTokenID), "jti is %s", quoted(cl.ID)); err != nil {
		return err
	}
	if usr, ok := text(cl.User); ok && isIdentifier(usr) {
		who.User = usr
	}
	return nil
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
