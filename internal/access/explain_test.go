package access_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/access"
)

// tell is what Explain says, in few words: the steps with a + or a -.
func tell(steps []access.Step) string {
	var all []string
	for _, s := range steps {
		mark := "-"
		if s.OK {
			mark = "+"
		}
		all = append(all, mark+strings.TrimPrefix(s.Name, "right "))
	}
	return strings.Join(all, " ")
}

func TestExplainGoesTheWayOfAuthenticate(t *testing.T) {
	const toSignature = "+header +form +client +type +key +algorithm +signature "
	token := toSignature + "+times +audience +subject +token-id "
	both := bank()
	both.Certificate = desk().Certificate
	both.Grants = []access.Grant{
		{Right: access.SignMerchantTokens, SingleUse: true},
		{Right: access.CreateAppleProximityToken, Users: []string{"till-*"}},
	}
	good := deskCertificate().chain()
	bearer := func(token string) access.Proof {
		return access.Proof{Authorization: []string{"Bearer " + token}, Certificates: good}
	}
	bound := `{"x5t#S256":"` + thumbprint(good[0]) + `"}`
	for _, tc := range []struct {
		name   string
		client access.Client
		proof  access.Proof
		want   string
	}{
		{"good", bank(), bearer(signed(with())), token + "+signCards -signMerchantTokens -createAppleProximityToken -createActivationData -manageCards -readCards -managePasses -manageWalletTokens -searchTokens -activateTokens -searchCards -readEnablement -decideProvisioning -sendPasscodes -verifyPasscodes -proposeChanges -approveChanges -viewConsole"},
		{"good, with certificate, single use", both, bearer(signed(with("cnf", bound, "usr", `"till-1"`))), token + "+binding +certificate -signCards +signMerchantTokens +createAppleProximityToken -createActivationData -manageCards -readCards -managePasses -manageWalletTokens -searchTokens -activateTokens -searchCards -readEnablement -decideProvisioning -sendPasscodes -verifyPasscodes -proposeChanges -approveChanges -viewConsole"},
		{"single use without jti, another usr", both, bearer(signed(with("jti", "", "usr", `"desk"`))), token + "+certificate -signCards -signMerchantTokens -createAppleProximityToken -createActivationData -manageCards -readCards -managePasses -manageWalletTokens -searchTokens -activateTokens -searchCards -readEnablement -decideProvisioning -sendPasscodes -verifyPasscodes -proposeChanges -approveChanges -viewConsole"},
		{"no token", bank(), access.Proof{}, "-header"},
		{"no form", bank(), bearer("a.b"), "+header -form"},
		{"no client", bank(), bearer(signed(with("iss", `"x"`))), "+header +form -client"},
		{"no key", bank(), bearer(headed(`{"alg":"RS256","kid":"x"}`)), "+header +form +client +type -key"},
		{"another algorithm", bank(), bearer(headed(`{"alg":"HS256"}`)), "+header +form +client +type +key -algorithm"},
		{"bad signature", bank(), bearer(strangers()), "+header +form +client +type +key +algorithm -signature"},
		{"expired", bank(), bearer(signed(with("iat", "1", "exp", "2"))), toSignature + "-times"},
		{"aud", bank(), bearer(signed(with("aud", "7"))), toSignature + "+times -audience"},
		{"sub", bank(), bearer(signed(with("sub", "7"))), toSignature + "+times +audience -subject"},
		{"jti", bank(), bearer(signed(with("jti", "7"))), toSignature + "+times +audience +subject -token-id"},
		{"cnf", bank(), bearer(signed(with("cnf", "7"))), token + "-binding"},
		{"certificate", both, bearing(signed(with())), token + "-certificate"},
		{"certificate alone", desk(), connected(deskCertificate()), "+certificate +client +signCards -signMerchantTokens -createAppleProximityToken -createActivationData -manageCards -readCards -managePasses -manageWalletTokens -searchTokens -activateTokens -searchCards -readEnablement -decideProvisioning -sendPasscodes -verifyPasscodes -proposeChanges -approveChanges -viewConsole"},
		{"another certificate alone", desk(), connected(newCertificate(certificate{})), "-certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := verifierOf(t, tc.client)
			steps := v.Explain(t.Context(), tc.proof)
			if got := tell(steps); got != tc.want {
				t.Fatalf("told  %s\nwant  %s", got, tc.want)
			}
			_, err := v.Authenticate(t.Context(), tc.proof)
			failed := slices.IndexFunc(steps, func(s access.Step) bool { return !s.OK && !strings.HasPrefix(s.Name, "right ") })
			if (err != nil) != (failed >= 0) {
				t.Fatalf("Authenticate: %v, and Explain says %v", err, steps)
			}
			if failed >= 0 && !strings.HasPrefix(steps[failed].Detail, string(access.ReasonOf(err))+": ") {
				t.Errorf("%q does not begin with the reason %q", steps[failed].Detail, access.ReasonOf(err))
			}
		})
	}
}

// strangers is an honest header and payload under a stranger's signature.
func strangers() string { return seal(honestHeader, with(), rs256(strangersKey())) }

// What Explain repeats of a token is quoted, bounded, and never enough to use it.
func TestExplainGivesNoTokenAway(t *testing.T) {
	all := slices.Concat(malformed(), duplicates(), badHeaders(), badSignatures(), badClaims(), badTimes(), badBindings())
	all = append(all,
		hostile{"good", signed(with("mcc", `"5411"`, "secret", `"c4n4ry"`, "cnf", "")), ""},
		hostile{"long claims", signed(with("sub", `"`+strings.Repeat("c4", 2000)+`"`)), ""},
		hostile{"long kid", headed(`{"alg":"RS256","kid":"` + strings.Repeat("c4", 2000) + `"}`), ""},
		hostile{"long iss", signed(with("iss", `"`+strings.Repeat("c4", 2000)+`"`)), ""},
	)
	v := verifierOf(t, bank())
	for _, h := range all {
		parts := strings.Split(h.token, ".")
		for _, s := range v.Explain(t.Context(), bearing(h.token)) {
			if len(s.Detail) > 2000 {
				t.Errorf("%s: %d bytes of detail", h.name, len(s.Detail))
			}
			if strings.ContainsFunc(s.Detail, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e }) {
				t.Errorf("%s: detail does not print: %q", h.name, s.Detail)
			}
			if strings.Contains(s.Detail, "c4n4ry") {
				t.Errorf("%s: detail holds a claim that is none of ours: %s", h.name, s.Detail)
			}
			for _, p := range parts {
				if len(p) >= 16 && strings.Contains(s.Detail, p[len(p)-16:]) {
					t.Errorf("%s: detail holds a part of the token: %s", h.name, s.Detail)
				}
			}
		}
	}
}
