package config

import (
	"slices"
	"time"
)

// Merchant is merchant JWTs and Apple proximity tokens: the role merchant.
type Merchant struct {
	// MaxLifetime is the longest life of a merchant JWT that a client may ask for. Default
	// 15m, at most 24h.
	MaxLifetime time.Duration `yaml:"maxLifetime"`
	// Audience is the aud that merchant JWTs signed here must have to be taken by this
	// server's own checkjwt and proximity endpoints: the host name of its TLS endpoint.
	// Required with issuers.
	Audience string `yaml:"audience"`
	// AudFingerprints are the fingerprints of this server's TLS certificates, each sha256/
	// and the Base64 of the SHA-256. A merchant JWT that has aud_fingerprints must name one
	// of them. Required outside development, where without them the form alone is checked.
	AudFingerprints []string `yaml:"audFingerprints"`
	// Issuers are the iss of the merchant JWTs that are signed here, one a tenant.
	Issuers []MerchantIssuer `yaml:"issuers"`
	// Acquirers are those whose terminals merchant JWTs may name.
	Acquirers []Acquirer `yaml:"acquirers"`
	// Proximity is the Apple proximity token.
	Proximity Proximity `yaml:"proximity"`
}

// MerchantIssuer is the iss of a tenant's merchant JWTs. It is a client of this server's
// checkjwt and proximity endpoints by itself, and of nothing else.
type MerchantIssuer struct {
	// Tenant is whose tokens. Required.
	Tenant string `yaml:"tenant"`
	// Issuer is the iss, as agreed with those who verify the tokens. Required.
	Issuer string `yaml:"issuer"`
	// Acquirer is the one of acquirers whose terminals its tokens may name.
	Acquirer string `yaml:"acquirer"`
	// Rights are those of its tokens here. Default: createAppleProximityToken; [] for none.
	Rights *[]Grant `yaml:"rights"`
	// RateLimit bounds the requests with its tokens.
	RateLimit RateLimit `yaml:"rateLimit"`
}

// Acquirer has terminals.
type Acquirer struct {
	// Name is what clients and issuers call it by. Required.
	Name string `yaml:"name"`
	// TerminalProfiles are its terminals.
	TerminalProfiles []TerminalProfile `yaml:"terminalProfiles"`
}

// TerminalProfile is a terminal as Apple knows it.
type TerminalProfile struct {
	// AppleTerminalProfileID is what a merchant JWT has as x-tid. Required.
	AppleTerminalProfileID string `yaml:"appleTerminalProfileId"`
}

// Proximity is the Apple proximity token.
type Proximity struct {
	// Issuer is what $issuer stands for in claims.
	Issuer string `yaml:"issuer"`
	// Claims is the claim template: name to literal text or $issuer, $issuedAt, $expiresAt,
	// $jwtId, $terminalProfileId, $acquirer, $claim.NAME (sub, usr, mbn, mcc, x-tid, tpid,
	// spCfg). Default: iss, iat, exp, jti, mbn, mcc, terminalProfileId. Agree it with Apple:
	// no list of claims is public.
	Claims map[string]string `yaml:"claims"`
}

// proximityRight is the one right that merchant JWTs signed here can have.
const proximityRight = "createAppleProximityToken"

func (m *Merchant) defaults() {
	setDefault(&m.MaxLifetime, 15*time.Minute)
	for i := range m.Issuers {
		m.Issuers[i].RateLimit.defaults()
		if m.Issuers[i].Rights == nil {
			m.Issuers[i].Rights = &[]Grant{{Right: proximityRight}}
		}
	}
}

func (c *Config) checkMerchant(w *wrongs) {
	m := c.Merchant
	if c.HasRole(RoleMerchant) && c.Environment != Development && len(m.AudFingerprints) == 0 {
		w.say("merchant.audFingerprints", "is required outside development")
	}
	if m.MaxLifetime < time.Second || m.MaxLifetime > 24*time.Hour {
		w.say("merchant.maxLifetime", "must be 1s to 24h")
	}
	if len(m.Issuers) > 0 {
		w.need("merchant.audience", m.Audience)
	}
	if usesIssuer(m.Proximity.Claims) && len(m.Acquirers) > 0 {
		w.need("merchant.proximity.issuer", m.Proximity.Issuer)
	}
	m.checkAcquirers(w)
	m.checkIssuers(w)
	for i, cl := range c.Clients {
		m.checkClient(w, index("clients", i), cl)
	}
}

func (m Merchant) checkAcquirers(w *wrongs) {
	seen := map[string]bool{}
	for i, a := range m.Acquirers {
		at := index("merchant.acquirers", i)
		w.need(at+".name", a.Name)
		if seen[a.Name] {
			w.say(at+".name", "is that of another acquirer")
		}
		seen[a.Name] = true
		for j, p := range a.TerminalProfiles {
			w.need(at+index(".terminalProfiles", j)+".appleTerminalProfileId", p.AppleTerminalProfileID)
		}
	}
}

func (m Merchant) checkIssuers(w *wrongs) {
	tenants := map[string]bool{}
	for i, is := range m.Issuers {
		at := index("merchant.issuers", i)
		w.need(at+".tenant", is.Tenant)
		w.need(at+".issuer", is.Issuer)
		if tenants[is.Tenant] {
			w.say(at+".tenant", "is that of another issuer")
		}
		tenants[is.Tenant] = true
		m.checkAcquirer(w, at, is.Acquirer)
		for j, g := range *is.Rights {
			if g.Right != proximityRight {
				w.say(at+index(".rights", j), "can only be "+proximityRight+": whoever has merchant JWTs signed chooses their sub")
			}
		}
		is.RateLimit.check(w, at+".rateLimit")
	}
}

func (m Merchant) checkAcquirer(w *wrongs, at, name string) {
	known := slices.ContainsFunc(m.Acquirers, func(a Acquirer) bool { return a.Name == name })
	if name != "" && !known {
		w.say(at+".acquirer", "is none of merchant.acquirers")
	}
}

// checkClient holds what a client may have signed against its rights.
func (m Merchant) checkClient(w *wrongs, at string, cl Client) {
	m.checkAcquirer(w, at, cl.Acquirer)
	has := func(right string) bool {
		return slices.ContainsFunc(cl.Rights, func(g Grant) bool { return g.Right == right })
	}
	signs := has("signMerchantTokens")
	if signs && cl.MerchantTokens == nil {
		w.say(at+".merchantTokens", "is required with the right signMerchantTokens: it bounds what a stolen client can have signed")
	}
	if !signs && cl.MerchantTokens != nil {
		w.say(at+".merchantTokens", "has no effect without the right signMerchantTokens")
	}
	if cl.Acquirer != "" && !has(proximityRight) {
		w.say(at+".acquirer", "has no effect without the right "+proximityRight)
	}
	if signs && !slices.ContainsFunc(m.Issuers, func(is MerchantIssuer) bool { return is.Tenant == cl.Tenant }) {
		w.say(at+".tenant", "has no iss in merchant.issuers, which the right signMerchantTokens needs")
	}
}

// usesIssuer reports whether a claim template names $issuer, as the default does.
func usesIssuer(claims map[string]string) bool {
	if claims == nil {
		return true
	}
	for _, v := range claims {
		if v == "$issuer" {
			return true
		}
	}
	return false
}
