package config

import "time"

// StatementKey is a key by which a tenant's own systems state what they know of a cardholder:
// P-256 for ES256, RSA for RS256.
type StatementKey struct {
	// Tenant is about whose cardholders. Required.
	Tenant string `yaml:"tenant"`
	// ID is the kid of statements signed with it. Required.
	ID string `yaml:"kid"`
	// PublicKeyFile is the key in PEM (SPKI), or a certificate that holds it. Required.
	PublicKeyFile string `yaml:"publicKeyFile"`
}

func checkStatements(w *wrongs, all []StatementKey) {
	seen := map[[2]string]bool{}
	for i, k := range all {
		at := index("pushProvisioning.statements", i)
		w.need(at+".tenant", k.Tenant)
		w.need(at+".kid", k.ID)
		w.need(at+".publicKeyFile", k.PublicKeyFile)
		if id := [2]string{k.Tenant, k.ID}; seen[id] {
			w.say(at+".kid", "is that of another key of the tenant")
		} else {
			seen[id] = true
		}
	}
}

// Decisions are the thresholds of provisioning decisions: docs/decisions.md. What must be is no
// setting.
type Decisions struct {
	// Life is how long a decision counts. Default 24h.
	Life time.Duration `yaml:"life"`
	// Session is how long after a Yellow the second device of a session goes Green. Default 30m.
	Session time.Duration `yaml:"session"`
	// Within is how long a decision may take, which is how long the network waits. Default 500ms.
	Within time.Duration `yaml:"within"`
	// PasscodeFresh is how long a verified passcode is not dated. Default 10m, at most 1h.
	PasscodeFresh time.Duration `yaml:"passcodeFresh"`
	// CallFresh is the same of the call centre's outcome. Default 1h.
	CallFresh time.Duration `yaml:"callFresh"`
	// ChannelTenure is how long a channel must be a cardholder's to be tenured. Default 720h.
	ChannelTenure time.Duration `yaml:"channelTenure"`
	// CredentialWindow is how long a change of credentials counts. Default 1440h (60 days).
	CredentialWindow time.Duration `yaml:"credentialWindow"`
	// AppTenure and DeviceTenure are how long an app, or a device, is new. Default 720h.
	AppTenure    time.Duration `yaml:"appTenure"`
	DeviceTenure time.Duration `yaml:"deviceTenure"`
	// YellowScore, OrangeScore and RedScore are the risk scores from which on the issuer asks
	// for verification (outside its app), for more of it, and declines; 101 for never. Default
	// 30, 60, 90.
	YellowScore int `yaml:"yellowScore"`
	OrangeScore int `yaml:"orangeScore"`
	RedScore    int `yaml:"redScore"`
}

func (d *Decisions) defaults() {
	const day = 24 * time.Hour
	setDefault(&d.Life, day)
	setDefault(&d.Session, 30*time.Minute)
	setDefault(&d.Within, 500*time.Millisecond)
	setDefault(&d.PasscodeFresh, 10*time.Minute)
	setDefault(&d.CallFresh, time.Hour)
	setDefault(&d.ChannelTenure, 30*day)
	setDefault(&d.CredentialWindow, 60*day)
	setDefault(&d.AppTenure, 30*day)
	setDefault(&d.DeviceTenure, 30*day)
	setDefault(&d.YellowScore, 30)
	setDefault(&d.OrangeScore, 60)
	setDefault(&d.RedScore, 90)
}

func (d Decisions) check(w *wrongs) {
	const at = "pushProvisioning.decisions."
	for _, v := range []struct {
		key   string
		value time.Duration
	}{
		{"life", d.Life}, {"session", d.Session}, {"within", d.Within}, {"passcodeFresh", d.PasscodeFresh}, {"callFresh", d.CallFresh},
		{"channelTenure", d.ChannelTenure}, {"credentialWindow", d.CredentialWindow}, {"appTenure", d.AppTenure}, {"deviceTenure", d.DeviceTenure},
	} {
		if v.value <= 0 {
			w.say(at+v.key, "must be positive")
		}
	}
	if d.PasscodeFresh > time.Hour {
		w.say(at+"passcodeFresh", "must be at most 1h: a passcode is kept no longer")
	}
	if d.YellowScore < 1 || d.YellowScore > d.OrangeScore || d.OrangeScore > d.RedScore || d.RedScore > 101 {
		w.say(at+"yellowScore", "must be 1 to orangeScore, that at most redScore, and that at most 101")
	}
}

// Passcodes bounds one-time passcodes.
type Passcodes struct {
	// Digits is how many a passcode has, 6 to 10. Default 6.
	Digits int `yaml:"digits"`
	// Attempts is how often one may be tried, 1 to 10. Default 3.
	Attempts int `yaml:"attempts"`
	// Life is how long it is good for, at most 1h. Default 5m.
	Life time.Duration `yaml:"life"`
	// PerHour is how many may be sent for one card within an hour, 1 to 100. Default 5.
	PerHour int `yaml:"perHour"`
}

func (p *Passcodes) defaults() {
	setDefault(&p.Digits, 6)
	setDefault(&p.Attempts, 3)
	setDefault(&p.Life, 5*time.Minute)
	setDefault(&p.PerHour, 5)
}

func (p Passcodes) check(w *wrongs) {
	const at = "pushProvisioning.passcodes."
	if p.Digits < 6 || p.Digits > 10 {
		w.say(at+"digits", "must be 6 to 10")
	}
	if p.Attempts < 1 || p.Attempts > 10 {
		w.say(at+"attempts", "must be 1 to 10")
	}
	if p.Life < time.Second || p.Life > time.Hour {
		w.say(at+"life", "must be 1s to 1h")
	}
	if p.PerHour < 1 || p.PerHour > 100 {
		w.say(at+"perHour", "must be 1 to 100")
	}
}
