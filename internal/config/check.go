package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Check reports everything that is wrong with the configuration by itself. What the
// files it names hold is checked by those who read them.
func (c *Config) Check() error {
	var w wrongs
	if !slices.Contains([]string{Development, Test, Production}, c.Environment) {
		w.say("environment", "must be development, test or production; it has no default")
	}
	c.checkRoles(&w)
	c.checkListeners(&w)
	c.checkLeases(&w)
	if c.ShutdownDelay < 0 || c.ShutdownDelay > 5*time.Minute {
		w.say("shutdownDelay", "must be 0 to 5m")
	}
	c.checkHSM(&w)
	w.need("keyring", c.Keyring)
	if (c.Store.SQLite == "") == (c.Store.Postgres.DSNFile == "") {
		w.say("store", "must name one of sqlite and postgres.dsnFile")
	}
	if c.Store.Postgres.DSNFile != "" {
		w.need("dataDir", c.DataDir)
	}
	for i, cl := range c.Clients {
		cl.check(&w, index("clients", i))
		if (cl.Certificate != nil || cl.BoundTokens) && !c.looksAtCertificates() {
			w.say(index("clients", i)+".certificate", "or boundTokens has no effect: no listener's tls.clientCertificates looks at certificates, so that the client could not call")
		}
	}
	if c.HasRole(RoleIssuer) {
		c.checkPushProvisioning(&w)
	}
	c.checkMerchant(&w)
	if c.HasRole(RolePasses) {
		c.checkPasses(&w)
	}
	c.Outbound.check(&w)
	c.checkAudit(&w)
	c.checkDualControl(&w)
	c.Console.check(&w)
	c.Tracing.check(&w)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		w.say("log.level", "must be debug, info, warn or error")
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		w.say("log.format", "must be json or text")
	}
	return errors.Join(w...)
}

func (c *Config) checkRoles(w *wrongs) {
	for _, r := range c.Roles {
		if !slices.Contains(Roles(), r) {
			w.say("roles", "must be of issuer, merchant and passes")
		}
	}
	if len(c.Roles) == 0 {
		w.say("roles", "must name at least one role")
	}
	if c.MerchantAPI != nil && !c.HasRole(RoleMerchant) {
		w.say("merchantAPI", "is the listener of the role merchant, which roles does not name")
	}
	if c.PassesAPI != nil && !c.HasRole(RolePasses) {
		w.say("passesAPI", "is the listener of the role passes, which roles does not name")
	}
	if c.Environment == Production && c.HasRole(RoleIssuer) && c.HasRole(RolePasses) && c.PassesAPI == nil {
		w.say("passesAPI", "is required in production where both roles are served, or another process: card data do not pass the listener that phones call")
	}
	if c.Environment == Production && c.HasRole(RoleIssuer) && c.HasRole(RoleMerchant) && c.MerchantAPI == nil {
		w.say("merchantAPI", "is required in production where both roles are served, or another process: card data do not pass the listener that apps call")
	}
}

func (c *Config) checkListeners(w *wrongs) {
	for _, l := range c.Listeners() {
		l.check(w)
	}
	if loopback, err := onLoopback(c.Admin.Listen); err != nil || !loopback {
		w.say("admin.listen", "must be host:port of a loopback address")
	}
	checkHosts(w, "admin.hosts", c.Admin.Hosts)
}

// checkHosts reports what no Host header names without its port.
func checkHosts(w *wrongs, at string, hosts []string) {
	for i, h := range hosts {
		if _, err := netip.ParseAddr(h); err != nil && (h == "" || strings.ContainsAny(h, ":/ []@*")) {
			w.say(index(at, i), "must be a name or an address, without a port")
		}
	}
}

func (l Listener) check(w *wrongs) {
	if loopback, err := onLoopback(l.Listen); err != nil {
		w.say(l.Name+".listen", "must be host:port")
	} else if !loopback && l.TLS == nil {
		w.say(l.Name+".tls", "is required where "+l.Name+".listen is not a loopback address")
	}
	if l.RequestTimeout < time.Second {
		w.say(l.Name+".requestTimeout", "must be at least 1s")
	}
	if l.TLS != nil {
		l.TLS.check(w, l.Name+".tls", l.Roles)
	}
}

// checkLeases holds the time for which something single-use stays claimed against the time
// that a request may take with it.
func (c *Config) checkLeases(w *wrongs) {
	for _, l := range c.Listeners() {
		if c.PushProvisioning.NonceLease <= l.RequestTimeout {
			w.say("pushProvisioning.nonceLease", "must be longer than "+l.Name+".requestTimeout")
		}
	}
}

func (t TLS) check(w *wrongs, at string, roles []string) {
	switch {
	case !t.KeyInToken:
		w.need(at+".certificateFile", t.CertificateFile)
		w.need(at+".keyFile", t.KeyFile)
	case t.CertificateFile != "" || t.KeyFile != "":
		w.say(at+".keyInToken", "takes the place of certificateFile and keyFile; the keyring names the certificate")
	}
	if t.MinVersion != "1.2" && t.MinVersion != "1.3" {
		w.say(at+".minVersion", "must be 1.2 or 1.3")
	}
	for _, role := range slices.Sorted(maps.Keys(t.ClientCertificates)) {
		if !slices.Contains(roles, role) {
			w.say(at+".clientCertificates."+role, "is no role that this listener serves")
		}
		if !slices.Contains([]string{"off", "request", "require"}, t.ClientCertificates[role]) {
			w.say(at+".clientCertificates."+role, "must be off, request or require")
		}
	}
}

// looksAtCertificates reports whether any listener looks at callers' certificates.
func (c *Config) looksAtCertificates() bool {
	for _, l := range c.Listeners() {
		for _, role := range l.Roles {
			if l.TLS != nil && l.TLS.ClientCertificates[role] != "" && l.TLS.ClientCertificates[role] != "off" {
				return true
			}
		}
	}
	return false
}

func (c *Config) checkHSM(w *wrongs) {
	if len(c.HSM.Members) == 0 {
		w.say("hsm.members", "must name at least one token")
	}
	if c.HSM.Policy != "failover" && c.HSM.Policy != "spread" {
		w.say("hsm.policy", "must be failover or spread")
	}
	if c.HSM.Isolation != "none" && c.HSM.Isolation != "process" {
		w.say("hsm.isolation", "must be none or process")
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"callTimeout", c.HSM.CallTimeout}, {"drainTimeout", c.HSM.DrainTimeout}, {"keepAlive", c.HSM.KeepAlive}} {
		if d.value < 100*time.Millisecond {
			w.say("hsm."+d.key, "must be at least 100ms")
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

func (c *Config) checkPushProvisioning(w *wrongs) {
	p := c.PushProvisioning
	switch {
	case c.Environment == Production && p.TestRootFile != "":
		w.say("pushProvisioning.testRootFile", "is refused in production, which trusts Apple's root alone")
	case c.Environment != Production && p.TestRootFile == "":
		w.say("pushProvisioning.testRootFile", "is required outside production")
	}
	for i, product := range p.Products {
		if product.Test && c.Environment == Production {
			w.say(index("pushProvisioning.products", i)+".test", "is refused in production")
		}
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
	p.Connector.check(w, c.Environment)
	checkStatements(w, p.Statements)
	p.Decisions.check(w)
	p.Passcodes.check(w)
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

// index is the operator's name of an element of a list.
func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// onLoopback reports whether an address can be reached from this machine alone.
func onLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback()), nil
}

// OnLoopback reports whether an address that was checked can be reached from this machine alone.
func OnLoopback(address string) bool {
	is, err := onLoopback(address)
	return err == nil && is
}
