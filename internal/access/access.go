// Package access decides who may call.
//
// A caller is a client that the operator has configured, proved by a bearer token:
// a JWT (RFC 7519) signed with one of that client's keys. Which operations it may
// call stands in the same configuration, never in the token.
//
//	verifier, err := access.NewVerifier([]access.Client{{
//		Issuer:      "https://issuer.example",
//		Tenant:      "bank-a",
//		Audience:    "mint.example",
//		Keys:        []access.Key{{ID: "2026-07", Algorithm: access.RS256, Public: public}},
//		Rights:      []access.Right{access.SignCards},
//		MaxLifetime: 15 * time.Minute,
//		Leeway:      access.DefaultLeeway,
//	}}, time.Now)
//	if err != nil { … } // all that is wrong with the configuration, for the operator
//
//	token, err := access.Bearer(request.Header.Values("Authorization"))
//	if err != nil { … } // 401
//	caller, err := verifier.Authenticate(token)
//	if err != nil { … } // 401, one body for all; access.ReasonOf(err) for log and metric
//	if err := caller.May(access.SignCards); err != nil { … } // 403
//
// A token is taken through these steps, and the first that fails gives the reason:
//
//  1. form: size, three segments, canonical Base64url, JSON without duplicate
//     members, no extension that would have to be understood;
//  2. key: iss names the client, kid (or, without one, the client's only key) the
//     key, and the key, not the token, names the algorithm;
//  3. signature: from here on the claims are the client's own words;
//  4. times: iat and exp present, life not longer than configured, now within it;
//  5. aud, sub and jti.
//
// The signature itself is checked by golang-jwt. Its parser is not used: with all
// options on, it takes an altered typ, an unknown or empty crit, duplicate members,
// mixed audiences, an empty subject, line ends inside a segment, and tokens of any
// size and life.
//
// What is not guaranteed: a token is good for as long as it lives, any number of
// times; what may happen once only needs its own claim, in the transaction that
// records it. Subject and TokenID are bounded and printable, and otherwise as the
// issuer chose them: two texts that look alike are two subjects, and nothing here
// keeps an issuer from putting a card number there. A key that is taken out of the
// configuration is trusted until the next NewVerifier.
package access
