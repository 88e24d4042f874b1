// Package access decides who may call.
//
// A caller is a client that the operator has configured. It proves itself by a bearer
// token, a JWT (RFC 7519) signed with one of that client's keys; by the certificate of
// its TLS connection (RFC 8705, 2); or by both. Which operations it may call stands in
// the same configuration, never in the token.
//
//	verifier, err := access.NewVerifier([]access.Client{{
//		Issuer:      "https://issuer.example",
//		Tenant:      "bank-a",
//		Audience:    "mint.example",
//		Keys:        []access.Key{{ID: "2026-07", Algorithm: access.RS256, Public: public}},
//		Grants:      []access.Grant{{Right: access.SignCards, Users: []string{"till-*"}}},
//		Rate:        access.Rate{PerSecond: 20, Burst: 40},
//		MaxLifetime: 15 * time.Minute,
//		Leeway:      access.DefaultLeeway,
//	}}, time.Now)
//	if err != nil { … } // all that is wrong with the configuration, for the operator
//
//	caller, err := verifier.Authenticate(ctx, access.Proof{
//		Authorization: request.Header.Values("Authorization"),
//		Certificates:  request.TLS.PeerCertificates,
//	})
//	if access.ReasonOf(err) != "" { … } // 401, one body for all; the reason is for log and metric
//	if err != nil { … }                 // 503: the client's keys cannot be had now; it has RetryAfter
//	if err := verifier.Admit(caller); err != nil { … }         // 429; it has RetryAfter
//	if err := caller.May(access.SignCards); err != nil { … }   // 403, or 401 if it has a reason
//	if use := caller.Use(access.SignCards, now, lease); use != nil {
//		… // a claim for the transaction that records the intent; access.ErrReplayed is 409
//	}
//
// A token is taken through these steps, and the first that fails gives the reason:
//
//  1. form: size, three segments, canonical Base64url, JSON without duplicate
//     members and not nested deep, no extension that would have to be understood;
//  2. key: iss names the client, kid (or, without one, the client's only key) the
//     key, and the key, not the token, names the algorithm;
//  3. signature: from here on the claims are the client's own words;
//  4. times: iat and exp present, life not longer than configured, now within it;
//  5. aud, sub and jti;
//  6. connection: the certificate that cnf binds the token to (RFC 8705, 3), and the
//     one that the client must have.
//
// Without an Authorization header it is the certificate that decides: of the clients
// that need no token exactly one must know it, by its CA and a name or by its key. A
// header in which somebody forwards a certificate is none: only the handshake proves
// that the key is there.
//
// The keys of a client stand in the configuration, or the client publishes them as a
// [JWKS], which is fetched, kept, and fetched again with restraint.
//
// [Verifier.Explain] goes the same way and tells the operator each decision.
//
// The signature itself is checked by golang-jwt. Its parser is not used: with all
// options on, it takes an altered typ, an unknown or empty crit, duplicate members,
// mixed audiences, an empty subject, line ends inside a segment, and tokens of any
// size and life.
//
// What is not guaranteed: a token is good for as long as it lives, any number of
// times, unless the right is granted for single use and the claim is committed. Sub,
// usr, jti and kid are bounded and printable, and otherwise as the client chose them:
// two texts that look alike are two, and nothing here keeps a client from putting a
// card number there. A configured key that is taken out is trusted until the next
// NewVerifier, a published one until the set is fetched again. No certificate is looked
// up in a list of revoked ones: a client whose certificate is lost is taken out of the
// configuration. Rates are counted in this process, by each Verifier anew.
package access
