package config

import "time"

// Client is one caller. It proves itself by bearer tokens (JWTs), by a TLS client
// certificate, or by both.
type Client struct {
	// Issuer is the iss of its tokens, and the client's name everywhere else; unique among
	// clients. Required.
	Issuer string `yaml:"issuer"`
	// Tenant is whose data it works on. Required.
	Tenant string `yaml:"tenant"`
	// Audience is the one aud its tokens must have. Required with keys or jwksURL.
	Audience string `yaml:"audience"`
	// Keys verify its tokens; more than one while a key is being changed.
	Keys []ClientKey `yaml:"keys"`
	// JWKSURL is where its keys are published (https), in place of keys. They are fetched
	// when needed, kept by their Cache-Control between 1m and 1h, and used for at most 24h
	// while they cannot be fetched.
	JWKSURL string `yaml:"jwksURL"`
	// Certificate says which TLS client certificates are its own. With keys or jwksURL both
	// are needed for each request; alone it is enough.
	Certificate *ClientCertificate `yaml:"certificate"`
	// BoundTokens refuses tokens that are not bound to the certificate of their connection
	// by cnf x5t#S256 (RFC 8705). A token that has cnf is held to it in any case.
	BoundTokens bool `yaml:"boundTokens"`
	// Require lists what its tokens must have though it is optional: kid, typ, jti.
	Require []string `yaml:"require"`
	// Rights are what it may do: signCards, createActivationData, manageCards, readCards,
	// signMerchantTokens, createAppleProximityToken, managePasses, manageWalletTokens,
	// searchTokens, activateTokens, searchCards, readEnablement, decideProvisioning,
	// sendPasscodes, verifyPasscodes, proposeChanges, approveChanges, viewConsole; each by its
	// name, or as
	// a mapping that narrows it.
	Rights []Grant `yaml:"rights"`
	// RateLimit bounds its requests.
	RateLimit RateLimit `yaml:"rateLimit"`
	// MerchantTokens is what it may have signed. Required with signMerchantTokens.
	MerchantTokens *MerchantTokens `yaml:"merchantTokens"`
	// Acquirer is the one of merchant.acquirers whose terminals its merchant JWTs may name.
	Acquirer string `yaml:"acquirer"`
	// MaxLifetime bounds exp - iat. Default 15m, at most 24h.
	MaxLifetime time.Duration `yaml:"maxLifetime"`
	// Leeway is the clock difference allowed. Default 10s, at most 30s.
	Leeway time.Duration `yaml:"leeway"`
}

// ClientKey is a client's public key: RSA for RS256, P-256 for ES256.
type ClientKey struct {
	// ID is the kid of tokens signed with it.
	ID string `yaml:"kid"`
	// PublicKeyFile is the key in PEM (SPKI), or a certificate that holds it.
	PublicKeyFile string `yaml:"publicKeyFile"`
}

// ClientCertificate says which TLS client certificates are a client's own: those that its
// CA issued to one name, or those with certain keys.
type ClientCertificate struct {
	// CAFile holds its CA's certificates in PEM.
	CAFile string `yaml:"caFile"`
	// DNS, URI or Email is the subject alternative name, exactly; one of them with caFile.
	DNS   string `yaml:"dns"`
	URI   string `yaml:"uri"`
	Email string `yaml:"email"`
	// CRLFile holds certificate revocation lists in PEM, whole ones, of the CA and of those
	// below it. A certificate whose issuer has no current one in it is refused. Read again on
	// SIGHUP. Default: none is looked at.
	CRLFile string `yaml:"crlFile"`
	// DeniedSPKISHA256 are keys whose certificates, the client's or those between, count no
	// more although the CA issued them: SHA-256 of the SubjectPublicKeyInfo, hex.
	DeniedSPKISHA256 []string `yaml:"deniedSPKISHA256"`
	// SPKISHA256 are pins in place of caFile: SHA-256 of the SubjectPublicKeyInfo, hex.
	SPKISHA256 []string `yaml:"spkiSHA256"`
	// Subject is the sub that its requests count as, where there is no token. Default: the
	// name, or spki-sha256: and the pin.
	Subject string `yaml:"subject"`
}

// Grant is a right, narrowed as far as it says. As text it is the right alone.
type Grant struct {
	// Right is its name. Required.
	Right string `yaml:"right"`
	// Subjects and Users are patterns for sub and usr, in which * stands for any run of
	// characters; one of each list must match. None: any.
	Subjects []string `yaml:"subjects"`
	Users    []string `yaml:"users"`
	// Keys are the kid of the keys that count. None: any.
	Keys []string `yaml:"keys"`
	// AnyOwner lets the right be used on cards and wallet tokens of every owner of the tenant,
	// and not only of the caller's own iss and sub; on cards while no two of the others have
	// one of the same id.
	AnyOwner bool `yaml:"anyOwner"`
	// Tenants are those whose data it is for, of rights to calls that name a tenant
	// (managePasses, viewConsole). None: the client's own.
	Tenants []string `yaml:"tenants"`
	// SingleUse lets each token be used once for this right; it then needs a jti.
	SingleUse bool `yaml:"singleUse"`
}

// UnmarshalYAML reads a right as text or as a mapping.
func (g *Grant) UnmarshalYAML(read func(any) error) error {
	if read(&g.Right) == nil {
		return nil
	}
	type mapping Grant // without this method
	return read((*mapping)(g))
}

// RateLimit bounds the requests of a client, over all its subjects.
type RateLimit struct {
	// PerSecond is the rate over time. Default 100, where it is left out; -1 for no limit. 0
	// is refused: a client that may call never has no rights, or is not listed.
	PerSecond float64 `yaml:"perSecond"`
	// Burst is how many may come at once. Default twice perSecond, where it is left out.
	Burst int `yaml:"burst"`
}

// UnmarshalYAML tells what is left out from what is zero: what is written is never the zero
// value, which stands for a limit that is left out as a whole.
func (r *RateLimit) UnmarshalYAML(read func(any) error) error {
	var text struct {
		PerSecond *float64 `yaml:"perSecond"`
		Burst     *int     `yaml:"burst"`
	}
	if err := read(&text); err != nil {
		return err
	}
	if r.PerSecond = defaultRate; text.PerSecond != nil {
		r.PerSecond = *text.PerSecond
	}
	if r.Burst = twice(r.PerSecond); text.Burst != nil {
		r.Burst = *text.Burst
	}
	if *r == (RateLimit{}) {
		r.Burst = -1 // as wrong as 0
	}
	return nil
}

// MerchantTokens is what a client may have signed. In patterns * stands for any run of
// characters. What is not listed is not signed: without businessNames and categoryCodes,
// tokens cannot have mbn and mcc.
type MerchantTokens struct {
	// Subjects and Audiences are patterns for sub and aud.
	Subjects  []string `yaml:"subjects"`
	Audiences []string `yaml:"audiences"`
	// BusinessNames and CategoryCodes are patterns for mbn and mcc.
	BusinessNames []string `yaml:"businessNames"`
	CategoryCodes []string `yaml:"categoryCodes"`
	// DailyQuota is how many tokens a day (UTC). Default 10000, where it is left out; -1 for
	// no limit. 0 is refused: a client that may have none signed lacks the right.
	DailyQuota int `yaml:"dailyQuota"`
}

// UnmarshalYAML tells a quota that is left out from one of zero.
func (m *MerchantTokens) UnmarshalYAML(read func(any) error) error {
	type mapping MerchantTokens // without this method
	given := mapping{DailyQuota: defaultQuota}
	err := read(&given)
	*m = MerchantTokens(given)
	return err
}

// What is usual of tokens.
const (
	defaultLifetime = 15 * time.Minute
	defaultLeeway   = 10 * time.Second
)

// What a client may do where its limits are left out.
const (
	defaultRate  = 100.0 // a second
	defaultQuota = 10_000
)

// unlimited is how a limit is written that there is not.
const unlimited = -1

func (cl *Client) defaults() {
	setDefault(&cl.MaxLifetime, defaultLifetime)
	setDefault(&cl.Leeway, defaultLeeway)
	cl.RateLimit.defaults()
}

func (r *RateLimit) defaults() {
	if *r == (RateLimit{}) {
		*r = RateLimit{PerSecond: defaultRate, Burst: twice(defaultRate)}
	}
}

// twice is the burst of a rate, at least 1; none where there is no limit.
func twice(perSecond float64) int {
	if perSecond == unlimited {
		return 0
	}
	return max(1, int(2*perSecond))
}

// Unlimited reports whether there is no limit.
func (r RateLimit) Unlimited() bool { return r.PerSecond == unlimited }

// Daily is the quota, 0 for none.
func (m MerchantTokens) Daily() int { return max(0, m.DailyQuota) }

func (cl Client) check(w *wrongs, at string) {
	w.need(at+".issuer", cl.Issuer)
	w.need(at+".tenant", cl.Tenant)
	tokens := len(cl.Keys) > 0 || cl.JWKSURL != ""
	switch {
	case len(cl.Keys) > 0 && cl.JWKSURL != "":
		w.say(at+".jwksURL", "takes the place of keys; give one of them")
	case !tokens && cl.Certificate == nil:
		w.say(at+".keys", "must name at least one key, or jwksURL or certificate say how the client proves itself")
	case tokens:
		w.need(at+".audience", cl.Audience)
	case cl.Audience != "" || len(cl.Require) > 0 || cl.BoundTokens || cl.MaxLifetime != defaultLifetime || cl.Leeway != defaultLeeway:
		w.say(at+".keys", "or jwksURL is missing: audience, require, boundTokens, maxLifetime and leeway are of tokens")
	}
	for i, k := range cl.Keys {
		w.need(at+index(".keys", i)+".publicKeyFile", k.PublicKeyFile)
	}
	if cl.Certificate != nil {
		cl.Certificate.check(w, at+".certificate")
	}
	for _, r := range cl.Require {
		if r != "kid" && r != "typ" && r != "jti" {
			w.say(at+".require", "lists what is not kid, typ or jti")
		}
	}
	checkGrants(w, at+".rights", cl.Rights)
	cl.RateLimit.check(w, at+".rateLimit")
	if m := cl.MerchantTokens; m != nil && (m.DailyQuota == 0 || m.DailyQuota < unlimited) {
		w.say(at+".merchantTokens.dailyQuota", "must be 1 or more, or -1 for no limit")
	}
}

func (cc ClientCertificate) check(w *wrongs, at string) {
	names := 0
	for _, n := range []string{cc.DNS, cc.URI, cc.Email} {
		if n != "" {
			names++
		}
	}
	switch {
	case (cc.CAFile != "") == (len(cc.SPKISHA256) > 0):
		w.say(at, "needs either caFile or spkiSHA256")
	case cc.CAFile != "" && names != 1:
		w.say(at, "needs exactly one of dns, uri and email with caFile")
	case cc.CAFile == "" && names != 0:
		w.say(at, "takes dns, uri and email with caFile only")
	case cc.CAFile == "" && (cc.CRLFile != "" || len(cc.DeniedSPKISHA256) > 0):
		w.say(at, "takes crlFile and deniedSPKISHA256 with caFile only: pinned keys are revoked by taking them out")
	}
}

func checkGrants(w *wrongs, at string, grants []Grant) {
	for i, g := range grants {
		w.need(at+index("", i)+".right", g.Right)
	}
}

func (r RateLimit) check(w *wrongs, at string) {
	switch {
	case r.Unlimited():
	case !(r.PerSecond > 0):
		w.say(at+".perSecond", "must be above 0, or -1 for no limit")
	case r.Burst < 1:
		w.say(at+".burst", "must be at least 1")
	}
}
