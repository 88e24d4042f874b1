package access_test

import (
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
		token, err := access.Bearer([]string{authorization})
		if err != nil {
			log.Fatal(err)
		}
		caller, err := verifier.Authenticate(token)
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
