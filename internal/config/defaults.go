package config

import (
	"path/filepath"
	"time"
)

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) defaults() {
	setDefault(&c.API.Listen, "127.0.0.1:8080")
	setDefault(&c.API.RequestTimeout, 15*time.Second)
	setDefault(&c.Admin.Listen, "127.0.0.1:9090")
	setDefault(&c.HSM.Policy, "failover")
	if c.Environment == Production {
		setDefault(&c.HSM.Isolation, "process")
	}
	setDefault(&c.HSM.Isolation, "none")
	setDefault(&c.HSM.CallTimeout, 10*time.Second)
	setDefault(&c.HSM.DrainTimeout, 5*time.Second)
	setDefault(&c.HSM.KeepAlive, time.Minute)
	if c.Store.SQLite != "" {
		setDefault(&c.DataDir, filepath.Dir(c.Store.SQLite))
	}
	if c.Roles == nil {
		c.Roles = []string{RoleIssuer}
	}
	if c.MerchantAPI != nil {
		setDefault(&c.MerchantAPI.Listen, "127.0.0.1:8081")
		setDefault(&c.MerchantAPI.RequestTimeout, c.API.RequestTimeout)
	}
	if c.PassesAPI != nil {
		setDefault(&c.PassesAPI.Listen, "127.0.0.1:8082")
		setDefault(&c.PassesAPI.RequestTimeout, c.API.RequestTimeout)
	}
	c.Console.defaults(c.API.RequestTimeout)
	for _, l := range c.apis() {
		if l.TLS != nil {
			setDefault(&l.TLS.MinVersion, "1.3")
		}
	}
	for i := range c.Clients {
		c.Clients[i].defaults()
	}
	c.Merchant.defaults()
	c.Passes.defaults()
	setDefault(&c.Outbound.Timeout, 5*time.Second)
	p := &c.PushProvisioning
	setDefault(&p.NonceLease, time.Minute)
	setDefault(&p.NonceLength, 4)
	setDefault(&p.NonceSignatureLength, 81)
	setDefault(&p.TAV.Version, "3")
	setDefault(&p.TAV.Validity, 30*time.Minute)
	p.Decisions.defaults()
	p.Passcodes.defaults()
	c.Audit.defaults(c.Environment)
	c.DualControl.defaults()
	c.Tracing.defaults()
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "json")
}
