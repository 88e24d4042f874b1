package integration

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mintmark/mintmark/hsm"
)

// callersSite is a site whose clients the test decides.
type callersSite struct {
	*site
	parties map[string]*party
}

func newCallersSite(t *testing.T, purposes ...hsm.Purpose) *callersSite {
	t.Helper()
	return &callersSite{site: newSite(t, purposes...), parties: map[string]*party{}}
}

// party gives the party called name, whose key the configuration finds in NAME.pem.
func (s *callersSite) party(name string) *party {
	s.t.Helper()
	p := s.parties[name]
	if p == nil {
		p = newParty(s.t, name, sharedAudience)
		p.claims = claims{"usr": "cashier", "mbn": "Shop", "mcc": "5411", "x-tid": "terminal-1"}
		s.write(name+".pem", p.publicPEM())
		s.parties[name] = p
	}
	return p
}

// clientOf is a client with a key in the configuration; more are its further members.
func clientOf(name, more string) string {
	return `
  - issuer: ` + name + `
    tenant: a
    audience: ` + sharedAudience + `
    keys: [{kid: ` + name + `-1, publicKeyFile: ` + name + `.pem}]
` + more
}

// merchantRole is a configuration of the merchant role with these clients.
func merchantRole(clients string) string {
	return `
roles: [merchant]
api: {listen: "127.0.0.1:0"}
clients:` + clients + merchantSection("terminal-1")
}

// merchantSection is that of a tenant with these terminals.
func merchantSection(terminals ...string) string {
	var profiles []string
	for _, id := range terminals {
		profiles = append(profiles, "{appleTerminalProfileId: "+id+"}")
	}
	return `
merchant:
  audience: ` + sharedAudience + `
  audFingerprints: [` + fingerprint + `]
  issuers: [{tenant: a, issuer: mint-a, acquirer: acquirer}]
  acquirers: [{name: acquirer, terminalProfiles: [` + strings.Join(profiles, ", ") + `]}]
  proximity: {issuer: mint}
`
}

// order is a merchant JWT to be signed.
var order = request{"sub": "shop", "usr": "cashier", "aud": sharedAudience}

// anything is what a client may have signed that is not bounded but by number.
const anything = `
    rights: [signMerchantTokens]
    merchantTokens: {subjects: ["*"], audiences: ["*"]`

// Whoever calls too often is told when to come again, and nobody else notices.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newCallersSite(t, hsm.MerchantJWT)
	eager, calm, thrifty := s.party("eager"), s.party("calm"), s.party("thrifty")
	s.configure(merchantRole(
		clientOf("eager", "    rateLimit: {perSecond: 0.001, burst: 5}") +
			clientOf("calm", anything+"}") +
			clientOf("thrifty", anything+", dailyQuota: 3}")))
	srv := s.serve()

	t.Run("rate", func(t *testing.T) {
		statuses := map[int]int{}
		for i := range 12 {
			eager.sub = "user-" + strconv.Itoa(i) // all of them count together
			for _, path := range []string{"/tokens/checkjwt", "/apple/proximity-token"} {
				a := srv.send(path, eager.token(nil), nil)
				statuses[a.status]++
				wait, err := strconv.Atoi(a.header.Get("Retry-After"))
				switch {
				case a.status == 429 && (err != nil || wait < 1 || wait > 1000):
					t.Errorf("%s answers 429 with Retry-After %q", path, a.header.Get("Retry-After"))
				case a.status == 429 && path == "/tokens/checkjwt" && a.problem() != "too-many-requests":
					t.Errorf("%s answers %s", path, a.body)
				case a.status == 429 && path != "/tokens/checkjwt" && string(a.body) != `{"error":"Too many requests"}`:
					t.Errorf("%s answers %s", path, a.body)
				}
			}
			if a := srv.send("/tokens/checkjwt", calm.token(nil), nil); a.status != 200 {
				t.Errorf("another client is answered %d: %s", a.status, a.body)
			}
		}
		if statuses[200] != 3 || statuses[403] != 2 || statuses[429] != 19 { // it has no right to proximity tokens
			t.Errorf("answers by status: %v", statuses)
		}
	})
	t.Run("daily quota", func(t *testing.T) {
		now := time.Now().UTC()
		if left := now.Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now); left < patience {
			<-time.After(left) // a quota is for a day, in which all of this must be
		}
		for i := range 6 {
			a := srv.send("/v1/merchant-tokens", thrifty.token(nil), order)
			reason, _ := a.refusal()
			wait, err := strconv.Atoi(a.header.Get("Retry-After"))
			if i < 3 && a.status != 200 || i >= 3 && (a.status != 429 || reason != "quota" || err != nil || wait < 1 || wait > 24*3600) {
				t.Errorf("token %d: answered %d: %s, Retry-After %d", i, a.status, a.body, wait)
			}
			if a := srv.send("/v1/merchant-tokens", calm.token(nil), order); a.status != 200 {
				t.Errorf("another client is answered %d: %s", a.status, a.body)
			}
		}
		// It is a matter of record: a reload, which forgets what is in memory, gives no more.
		srv.hangup("configuration reloaded")
		if a := srv.send("/v1/merchant-tokens", thrifty.token(nil), order); a.status != 429 {
			t.Errorf("after a reload: answered %d: %s", a.status, a.body)
		}
	})
}

// A right that is granted for single use takes each jti once, however many ask at once.
func TestTokenForSingleUse(t *testing.T) {
	t.Parallel()
	s := newCallersSite(t, hsm.MerchantJWT, hsm.ProximityToken)
	once, often := s.party("once"), s.party("often")
	s.configure(merchantRole(clientOf("often", anything+"}") + clientOf("once", `
    rights: [{right: signMerchantTokens, singleUse: true}, {right: createAppleProximityToken, singleUse: true}]
    merchantTokens: {subjects: ["*"], audiences: ["*"]}
    acquirer: acquirer`)))
	srv := s.serve()
	for path, used := range map[string]string{
		"/v1/merchant-tokens":    `urn:mintmark:problem:token-used`,
		"/apple/proximity-token": `{"error":"This token has been used"}`,
	} {
		srv.testOneWinner(path, once.token(nil), used)
		if a := srv.send(path, once.token(claims{"jti": nil}), order); a.status != 401 {
			t.Errorf("%s: without jti: answered %d: %s", path, a.status, a.body)
		}
	}
	look, spare := once.token(nil), once.token(nil)
	notAllowed := order.with(request{"mbn": "not allowed"})
	for i, tt := range []struct {
		path, token string
		body        request
		status      int
	}{
		// It is the jti of an iss that is used: the same claims signed anew are the same
		// token, those of another client are another, and other rights may use it often.
		{"/v1/merchant-tokens", once.token(claims{"jti": "the-one"}), order, 200},
		{"/v1/merchant-tokens", once.token(claims{"jti": "the-one"}), order, 409},
		{"/v1/merchant-tokens", often.token(claims{"jti": "the-one"}), order, 200},
		{"/v1/merchant-tokens", often.token(claims{"jti": "the-one"}), order, 200},
		// A look does not use it up, nor does asking for what is not allowed.
		{"/tokens/checkjwt", look, nil, 200},
		{"/tokens/checkjwt", look, nil, 200},
		{"/v1/merchant-tokens", look, order, 200},
		{"/v1/merchant-tokens", spare, notAllowed, 403},
		{"/v1/merchant-tokens", spare, order, 200},
		{"/v1/merchant-tokens", spare, order, 409},
	} {
		if a := srv.send(tt.path, tt.token, tt.body); a.status != tt.status {
			t.Errorf("request %d: answered %d instead of %d: %s", i, a.status, tt.status, a.body)
		}
	}
}

// testOneWinner has 20 callers use one token at once.
func (s *server) testOneWinner(path, token, used string) {
	s.t.Helper()
	statuses := map[int]int{}
	var mu sync.Mutex
	var callers errgroup.Group
	for range 20 {
		callers.Go(func() error {
			a, err := call{method: http.MethodPost, url: s.info.BaseURL + path, token: token, body: order}.by(client)
			mu.Lock()
			defer mu.Unlock()
			statuses[a.status]++
			if a.status == 409 && !strings.Contains(string(a.body), used) {
				s.t.Errorf("%s: 409 is %s", path, a.body)
			}
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		s.t.Fatal(err)
	}
	if statuses[200] != 1 || statuses[409] != 19 {
		s.t.Errorf("%s: answers by status: %v", path, statuses)
	}
}

// Callers that are refused by the thousand are counted, not listed: the log cannot be
// filled from outside.
func TestRefusalsCannotFillTheLog(t *testing.T) {
	t.Parallel()
	s := newCallersSite(t)
	app := s.party("app")
	s.configure(merchantRole(clientOf("app", "")))
	srv := s.serve()
	const attempts = 2000
	token := altered(app.token(nil))
	var callers errgroup.Group
	callers.SetLimit(8)
	for range attempts {
		callers.Go(func() error {
			a, err := call{method: http.MethodPost, url: srv.info.BaseURL + "/v1/merchant-tokens", token: token, body: order}.by(client)
			if err != nil {
				return err
			}
			return a.want(401)
		})
	}
	if err := callers.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := srv.counter(`mintmark_authentication_refusals_total{reason="signature"}`); n != attempts {
		t.Errorf("%d refusals are counted", n)
	}
	srv.stop()
	whole := srv.count(`SELECT COUNT(*) FROM audit_entries WHERE kind = 'refusal' AND json_extract(body, '$.times') IS NULL`)
	summaries := srv.count(`SELECT COUNT(*) FROM audit_entries WHERE kind = 'refusal' AND json_extract(body, '$.times') > 0`)
	counted := srv.count(`SELECT COALESCE(SUM(json_extract(body, '$.times')), 0) FROM audit_entries WHERE kind = 'refusal'`)
	t.Logf("%d refusals are %d entries and %d summaries", attempts, whole, summaries)
	// One window of a minute, or as many as a slow machine needs.
	if whole+counted != attempts || summaries < 1 || whole > 10*(summaries+1) {
		t.Errorf("%d entries and %d summaries over %d are not %d refusals", whole, summaries, counted, attempts)
	}
	if n := srv.entries("refusal", `"reason":"signature"`); n != whole+summaries {
		t.Errorf("%d of %d entries name the reason", n, whole+summaries)
	}
	if n := srv.entries("refusal", "eyJ"); n != 0 {
		t.Errorf("%d entries hold a token", n)
	}
	if n := srv.count(`SELECT COUNT(*) FROM audit_entries`); n != whole+summaries+2 { // start and stop
		t.Errorf("%d entries in all", n)
	}
}
