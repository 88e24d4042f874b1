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

// Outbound bounds what this service fetches from others: https only, no redirects.
type Outbound struct {
	// Timeout bounds one exchange. Default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// AllowPrivate lists private networks (CIDR) that may be connected to. Addresses that
	// are not public are refused otherwise.
	AllowPrivate []string `yaml:"allowPrivate"`
	// CAFile holds the CA certificates (PEM) to trust in place of the system's.
	CAFile string `yaml:"caFile"`
}

func (m *Merchant) defaults() {
	setDefault(&m.MaxLifetime, 15*time.Minute)
	for i := range m.Issuers {
		m.Issuers[i].RateLimit.defaults()
		if m.Issuers[i].Rights == nil {
			m.Issuers[i].Rights = &[]Grant{{Right: "createAppleProximityToken"}}
		}
	}
}

func (c *Config) checkMerchant(w *wrongs) {
	m := c.Merchant
	if c.HasRole(RoleMerchant) && c.Environment != Development && len(m.AudFingerprints) == 0 {
		w.say("merchant.audFingerprints", "is required outside development")
	}
	if len(m.Issuers) > 0 {
		w.need("merchant.audience", m.Audience)
	}
	acquirers := map[string]bool{}
	for i, a := range m.Acquirers {
		at := index("merchant.acquirers", i)
		w.need(at+".name", a.Name)
		if acquirers[a.Name] {
			w.say(at+".name", "is that of another acquirer")
		}
		acquirers[a.Name] = true
		for j, p := range a.TerminalProfiles {
			w.need(at+index(".terminalProfiles", j)+".appleTerminalProfileId", p.AppleTerminalProfileID)
		}
	}
	tenants := map[string]bool{}
	for i, is := range m.Issuers {
		at := index("merchant.issuers", i)
		w.need(at+".tenant", is.Tenant)
		w.need(at+".issuer", is.Issuer)
		if tenants[is.Tenant] {
			w.say(at+".tenant", "is that of another issuer")
		}
		tenants[is.Tenant] = true
		if is.Acquirer != "" && !acquirers[is.Acquirer] {
			w.say(at+".acquirer", "is none of merchant.acquirers")
		}
		checkGrants(w, at+".rights", *is.Rights)
		is.RateLimit.check(w, at+".rateLimit")
	}
	for i, cl := range c.Clients {
		at := index("clients", i)
		if cl.Acquirer != "" && !acquirers[cl.Acquirer] {
			w.say(at+".acquirer", "is none of merchant.acquirers")
		}
		signs := slices.ContainsFunc(cl.Rights, func(g Grant) bool { return g.Right == "signMerchantTokens" })
		if signs && cl.MerchantTokens == nil {
			w.say(at+".merchantTokens", "is required with the right signMerchantTokens: it bounds what a stolen client can have signed")
		}
		if signs && !tenants[cl.Tenant] {
			w.say(at+".tenant", "has no iss in merchant.issuers, which the right signMerchantTokens needs")
		}
	}
	if usesIssuer(m.Proximity.Claims) && len(m.Acquirers) > 0 {
		w.need("merchant.proximity.issuer", m.Proximity.Issuer)
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
