package access_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mintmark/mintmark/internal/access"
)

// A request's way in: its token, who it proves, and what that one may do.
func Example() {
	verifier, err := access.NewVerifier([]access.Client{bank()}, clockAt(noon))
	if err != nil {
		log.Fatal(err)
	}
	for _, authorization := range []string{
		"Bearer " + signed(with()),
		"Bearer " + signed(with("aud", `["mint.example","other.example"]`)),
	} {
		caller, err := verifier.Authenticate(context.Background(), access.Proof{Authorization: []string{authorization}})
		if err != nil {
			fmt.Println("401, and for the log:", access.ReasonOf(err))
			continue
		}
		fmt.Println(caller.Tenant, caller.Subject, caller.May(access.SignCards) == nil)
	}
	// Output:
	// bank-a user-1 true
	// 401, and for the log: audience
}

// What the operator is told about a token that is refused.
func ExampleVerifier_Explain() {
	verifier, err := access.NewVerifier([]access.Client{bank()}, clockAt(noon))
	if err != nil {
		log.Fatal(err)
	}
	token := signed(with("aud", `"other.example"`))
	for _, s := range verifier.Explain(context.Background(), access.Proof{Authorization: []string{"Bearer " + token}}) {
		fmt.Println(s.OK, s.Name, s.Detail)
	}
	// Output:
	// true header 1 Authorization headers
	// true form 557 bytes
	// true client iss is "https://issuer.example"
	// true type typ is "JWT"
	// true key kid is "2026-07"
	// true algorithm alg is "RS256"; the key is for RS256
	// true signature 256 bytes under the key
	// true times iat 2026-07-26T12:00:00Z, exp 2026-07-26T12:05:00Z, now 2026-07-26T12:00:00Z; the client may give 15m0s of life and 10s of leeway
	// false audience audience: aud is "other.example"; it must be "mint.example" alone
}
