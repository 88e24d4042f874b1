package config

import "time"

// ConsoleRole is what console.listener serves. It is no role of the process: no key is bound
// to it.
const ConsoleRole = "console"

// Console is the pages for the people who run and audit the service (docs/console.md). They
// show and change nothing. They are for clients with the right viewConsole; in development,
// for everybody on this machine.
type Console struct {
	// Enabled serves them under /console/ on the admin listener. Default false.
	Enabled bool `yaml:"enabled"`
	// Hosts are further names and addresses, without ports, by which browsers call the
	// console. A request for another name is refused. Loopback addresses, localhost, the hosts
	// of admin.listen and listener.listen, and admin.hosts are always taken. Default none.
	Hosts []string `yaml:"hosts"`
	// Listener is an address of its own for them, beside the admin listener: for browsers,
	// which prove themselves by TLS client certificates. Its tls is required, with
	// clientCertificates for console request or require (the default). Default none.
	Listener *API `yaml:"listener"`
}

func (c *Console) defaults(requestTimeout time.Duration) {
	l := c.Listener
	if l == nil {
		return
	}
	setDefault(&l.RequestTimeout, requestTimeout)
	if l.TLS != nil && l.TLS.ClientCertificates == nil {
		l.TLS.ClientCertificates = map[string]string{ConsoleRole: "require"}
	}
}

func (c *Console) check(w *wrongs) {
	checkHosts(w, "console.hosts", c.Hosts)
	switch {
	case c.Listener == nil:
	case !c.Enabled:
		w.say("console.listener", "serves nothing: console.enabled is not set")
	case c.Listener.TLS == nil:
		w.say("console.listener.tls", "is required: browsers prove themselves by certificates")
	case c.Listener.TLS.ClientCertificates[ConsoleRole] == "off" || c.Listener.TLS.ClientCertificates[ConsoleRole] == "":
		w.say("console.listener.tls.clientCertificates.console", "must be request or require")
	}
}
