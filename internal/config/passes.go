package config

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Passes is Wallet passes: the role passes.
type Passes struct {
	// PublicURL is where devices reach this service: https:// and a host, without a path.
	// Passes carry it as their web service. Required outside development, where its default
	// is the listener's address.
	PublicURL string `yaml:"publicURL"`
	// Types are the pass types that there are. Reloaded, but for pushing to new ones.
	Types []PassType `yaml:"types"`
	// BundleCacheMiB bounds the signed passes that are kept in memory. Default 8.
	BundleCacheMiB int `yaml:"bundleCacheMiB"`
	// FileCacheMiB bounds the images and other files that are kept. Default 8.
	FileCacheMiB int `yaml:"fileCacheMiB"`
	// MaxFiles and MaxFilesMiB bound the files that a tenant has uploaded, by number and
	// together. Default 10000 and 1024. What is beyond is answered 429.
	MaxFiles    int `yaml:"maxFiles"`
	MaxFilesMiB int `yaml:"maxFilesMiB"`
	// MaxRegistrations bounds the devices that are told of one pass. Default 10000; more for a
	// pass that many share. A device beyond is answered 429.
	MaxRegistrations int `yaml:"maxRegistrations"`
	// PersonalizationLease is how long a pass's one personalisation stays claimed by a
	// request that never ends. Default 60s; longer than the listener's requestTimeout.
	PersonalizationLease time.Duration `yaml:"personalizationLease"`
	// Push is how devices are told of changes.
	Push PassPush `yaml:"push"`
}

// PassType is a pass type of a tenant.
type PassType struct {
	// Tenant is whose. Required.
	Tenant string `yaml:"tenant"`
	// PassTypeIdentifier is the type, as Apple's portal has it. Required.
	PassTypeIdentifier string `yaml:"passTypeIdentifier"`
	// Key is the name of its pass key in the keyring, which may name its certificate. One
	// key has one type. Required.
	Key string `yaml:"key"`
}

// PassPush is how devices are told of changes.
type PassPush struct {
	// Disabled tells nobody; devices then notice when they ask by themselves. Default false.
	Disabled bool `yaml:"disabled"`
	// Host is Apple's push service, host or host:port. Default api.push.apple.com; another
	// one outside production only, where nothing but a simulation can be meant.
	Host string `yaml:"host"`
	// CAFile holds the CA certificates (PEM) to trust for it in place of the system's.
	CAFile string `yaml:"caFile"`
	// MaxTLSVersion is 1.2 or 1.3. Default 1.2 for RSA keys, which cannot have 1.3 (it needs
	// RSASSA-PSS), and 1.3 for others.
	MaxTLSVersion string `yaml:"maxTLSVersion"`
	// Lease is how long pushes are a process's own: those of one that was killed are made by
	// another when it is over. What takes longer may be pushed twice. Default 60s; 5s to 1h.
	Lease time.Duration `yaml:"lease"`
	// PushType is the header apns-push-type. Default: none is sent.
	PushType string `yaml:"pushType"`
	// Endpoints are where wallets other than Apple's are pushed.
	Endpoints []PassEndpoint `yaml:"endpoints"`
}

// PassEndpoint tells the devices of one kind of wallet.
type PassEndpoint struct {
	// Client is the kind: android (AndroidPass), walletunion (WalletUnionPass), or what the
	// wallet calls itself in X-Pass-Client, in lower case. Required.
	Client string `yaml:"client"`
	// URL is where its push tokens are posted (https). Required.
	URL string `yaml:"url"`
	// AuthorizationFile holds the value of the header Authorization.
	AuthorizationFile string `yaml:"authorizationFile"`
}

// appleHosts are the production push service on both of its ports.
var appleHosts = []string{"api.push.apple.com", "api.push.apple.com:443", "api.push.apple.com:2197"}

func (p *Passes) defaults() {
	setDefault(&p.BundleCacheMiB, 8)
	setDefault(&p.FileCacheMiB, 8)
	setDefault(&p.MaxFiles, 10_000)
	setDefault(&p.MaxFilesMiB, 1024)
	setDefault(&p.MaxRegistrations, 10_000)
	setDefault(&p.PersonalizationLease, time.Minute)
	setDefault(&p.Push.Host, appleHosts[0])
	setDefault(&p.Push.Lease, time.Minute)
}

func (c *Config) checkPasses(w *wrongs) {
	p := c.Passes
	if c.Environment != Development {
		w.need("passes.publicURL", p.PublicURL)
	}
	if p.PublicURL != "" {
		u, err := url.Parse(p.PublicURL)
		switch {
		case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", strings.TrimPrefix(p.PublicURL, u.Scheme+"://") != u.Host:
			w.say("passes.publicURL", "must be https:// and a host, without a path")
		case u.Scheme == "http" && c.Environment != Development:
			w.say("passes.publicURL", "must begin with https://")
		}
	}
	if len(p.Types) == 0 {
		w.say("passes.types", "must name at least one pass type")
	}
	seen, keys := map[[2]string]bool{}, map[string]bool{}
	for i, t := range p.Types {
		at := index("passes.types", i)
		w.need(at+".tenant", t.Tenant)
		w.need(at+".passTypeIdentifier", t.PassTypeIdentifier)
		w.need(at+".key", t.Key)
		if strings.ContainsAny(t.Tenant+t.PassTypeIdentifier, "/\x00") {
			w.say(at, "has a tenant or pass type that cannot stand in an address")
		}
		if id := [2]string{t.Tenant, t.PassTypeIdentifier}; seen[id] {
			w.say(at, "is there twice")
		} else {
			seen[id] = true
		}
		if keys[t.Key] {
			w.say(at+".key", "is that of another pass type; each has a certificate, and so a key, of its own")
		}
		keys[t.Key] = true
	}
	for name, n := range map[string]int{"bundleCacheMiB": p.BundleCacheMiB, "fileCacheMiB": p.FileCacheMiB} {
		if n < 1 || n > 64<<10 {
			w.say("passes."+name, "must be 1 to 65536")
		}
	}
	for name, n := range map[string]int{"maxFiles": p.MaxFiles, "maxFilesMiB": p.MaxFilesMiB, "maxRegistrations": p.MaxRegistrations} {
		if n < 1 {
			w.say("passes."+name, "must be at least 1")
		}
	}
	for _, l := range c.Listeners() {
		if slices.Contains(l.Roles, RolePasses) && p.PersonalizationLease <= l.RequestTimeout {
			w.say("passes.personalizationLease", "must be longer than "+l.Name+".requestTimeout")
		}
	}
	p.Push.check(w, c.Environment)
}

func (p PassPush) check(w *wrongs, environment string) {
	if environment == Production && !slices.Contains(appleHosts, p.Host) {
		w.say("passes.push.host", "must be Apple's in production")
	}
	if p.MaxTLSVersion != "" && p.MaxTLSVersion != "1.2" && p.MaxTLSVersion != "1.3" {
		w.say("passes.push.maxTLSVersion", "must be 1.2 or 1.3, or left out")
	}
	if p.Lease < 5*time.Second || p.Lease > time.Hour {
		w.say("passes.push.lease", "must be 5s to 1h")
	}
	if strings.ContainsAny(p.PushType, " \t\r\n") {
		w.say("passes.push.pushType", "must be one word")
	}
	for i, e := range p.Endpoints {
		at := index("passes.push.endpoints", i)
		w.need(at+".client", e.Client)
		w.need(at+".url", e.URL)
		if e.Client != strings.ToLower(e.Client) || e.Client == "apple" {
			w.say(at+".client", "must be in lower case, and not apple")
		}
	}
}
