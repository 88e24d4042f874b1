package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Check reports everything that is wrong with the configuration by itself. What the
// files it names hold is checked by those who read them.
func (c *Config) Check() error {
	var w wrongs
	if !slices.Contains([]string{Development, Test, Production}, c.Environment) {
		w.say("environment", "must be development, test or production; it has no default")
	}
	c.checkListeners(&w)
	c.checkHSM(&w)
	w.need("keyring", c.Keyring)
	if (c.Store.SQLite == "") == (c.Store.Postgres.DSNFile == "") {
		w.say("store", "must name one of sqlite and postgres.dsnFile")
	}
	if c.Store.Postgres.DSNFile != "" {
		w.need("dataDir", c.DataDir)
	}
	for i, cl := range c.Clients {
		cl.check(&w, fmt.Sprintf("clients[%d]", i))
	}
	c.checkPushProvisioning(&w)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		w.say("log.level", "must be debug, info, warn or error")
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		w.say("log.format", "must be json or text")
	}
	return errors.Join(w...)
}

func (c *Config) checkListeners(w *wrongs) {
	if loopback, err := onLoopback(c.API.Listen); err != nil {
		w.say("api.listen", "must be host:port")
	} else if !loopback && c.API.TLS == nil {
		w.say("api.tls", "is required where api.listen is not a loopback address")
	}
	if c.API.TLS != nil {
		w.need("api.tls.certificateFile", c.API.TLS.CertificateFile)
		w.need("api.tls.keyFile", c.API.TLS.KeyFile)
	}
	if c.API.RequestTimeout < time.Second {
		w.say("api.requestTimeout", "must be at least 1s")
	}
	if loopback, err := onLoopback(c.Admin.Listen); err != nil || !loopback {
		w.say("admin.listen", "must be host:port of a loopback address")
	}
}

func (c *Config) checkHSM(w *wrongs) {
	if len(c.HSM.Members) == 0 {
		w.say("hsm.members", "must name at least one token")
	}
	if c.HSM.Policy != "failover" && c.HSM.Policy != "spread" {
		w.say("hsm.policy", "must be failover or spread")
	}
	for key, d := range map[string]time.Duration{"callTimeout": c.HSM.CallTimeout, "drainTimeout": c.HSM.DrainTimeout, "keepAlive": c.HSM.KeepAlive} {
		if d < 100*time.Millisecond {
			w.say("hsm."+key, "must be at least 100ms")
		}
	}
	names := map[string]bool{}
	for i, m := range c.HSM.Members {
		at := fmt.Sprintf("hsm.members[%d].", i)
		w.need(at+"name", m.Name)
		if names[m.Name] {
			w.say(at+"name", "is that of another member")
		}
		names[m.Name] = true
		w.need(at+"module", m.Module)
		w.need(at+"pinFile", m.PINFile)
		if m.TokenLabel == "" && m.TokenSerial == "" {
			w.say(at+"tokenLabel", "or tokenSerial is required")
		}
		if m.RSAConcurrency < 0 || m.RSAConcurrency > 1024 {
			w.say(at+"rsaConcurrency", "must be 1 to 1024, or left out")
		}
		if m.ECConcurrency < 0 || m.ECConcurrency > 1024 {
			w.say(at+"ecConcurrency", "must be 1 to 1024, or left out")
		}
	}
}

func (cl Client) check(w *wrongs, at string) {
	w.need(at+".issuer", cl.Issuer)
	w.need(at+".tenant", cl.Tenant)
	w.need(at+".audience", cl.Audience)
	if len(cl.Keys) == 0 {
		w.say(at+".keys", "must name at least one key")
	}
	for i, k := range cl.Keys {
		w.need(fmt.Sprintf("%s.keys[%d].publicKeyFile", at, i), k.PublicKeyFile)
	}
}

func (c *Config) checkPushProvisioning(w *wrongs) {
	p := c.PushProvisioning
	switch {
	case c.Environment == Production && p.TestRootFile != "":
		w.say("pushProvisioning.testRootFile", "is refused in production, which trusts Apple's root alone")
	case c.Environment != Production && p.TestRootFile == "":
		w.say("pushProvisioning.testRootFile", "is required outside production")
	}
	if p.NonceLease <= c.API.RequestTimeout {
		w.say("pushProvisioning.nonceLease", "must be longer than api.requestTimeout")
	}
	if p.NonceLength < 1 || p.NonceLength > 64 {
		w.say("pushProvisioning.nonceLength", "must be 1 to 64")
	}
	if p.NonceSignatureLength < 1 || p.NonceSignatureLength > 512 {
		w.say("pushProvisioning.nonceSignatureLength", "must be 1 to 512")
	}
	if p.TAV.Version != "3" && p.TAV.Version != "4" {
		w.say("pushProvisioning.tav.version", "must be 3 or 4")
	}
	if (p.TAV.Version == "4") != (p.TAV.KeyAlias != "") {
		w.say("pushProvisioning.tav.keyAlias", "is required for version 4, and for no other")
	}
	if p.TAV.Validity <= 0 || p.TAV.Validity > 30*24*time.Hour {
		w.say("pushProvisioning.tav.validity", "must be positive and at most 720h")
	}
}

// wrongs collects what is wrong, by the operator's names.
type wrongs []error

func (w *wrongs) say(key, what string) { *w = append(*w, fmt.Errorf("%s %s", key, what)) }

func (w *wrongs) need(key, value string) {
	if value == "" {
		w.say(key, "is missing")
	}
}

// onLoopback reports whether an address can be reached from this machine alone.
func onLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback()), nil
}
