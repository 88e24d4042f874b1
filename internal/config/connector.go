package config

import "strings"

// The modes of a connector.
const (
	ConnectorHTTP      = "http"
	ConnectorSimulator = "simulator"
)

// Connector is the way to the payment network, or its service provider: docs/connector.md.
type Connector struct {
	// Mode is http, or simulator, which approves everything and writes notices, passcodes
	// among them, to a file: for development. Default: none.
	Mode string `yaml:"mode"`
	// URL is where requests go (https). Required with http.
	URL string `yaml:"url"`
	// Issuer is the iss of requests: this service's name with the network. Required with http.
	Issuer string `yaml:"issuer"`
	// Audience is the aud of requests: the network's name. Required with http.
	Audience string `yaml:"audience"`
	// Keys verify the network's answers; more than one while a key is being changed. Required
	// with http.
	Keys []ConnectorKey `yaml:"keys"`
	// NoticesFile is where the simulator writes notices, a JSON object a line. Required with
	// simulator.
	NoticesFile string `yaml:"noticesFile"`
}

// ConnectorKey is a key of the network's: P-256 for ES256, RSA for RS256.
type ConnectorKey struct {
	// ID is the kid of answers signed with it. Required.
	ID string `yaml:"kid"`
	// PublicKeyFile is the key in PEM (SPKI), or a certificate that holds it. Required.
	PublicKeyFile string `yaml:"publicKeyFile"`
}

func (c Connector) check(w *wrongs, environment string) {
	const at = "pushProvisioning.connector."
	switch c.Mode {
	case "":
		return
	case ConnectorSimulator:
		if environment == Production {
			w.say(at+"mode", "must not be simulator in production")
		}
		w.need(at+"noticesFile", c.NoticesFile)
	case ConnectorHTTP:
		w.need(at+"url", c.URL)
		if c.URL != "" && !strings.HasPrefix(c.URL, "https://") {
			w.say(at+"url", "must begin with https://")
		}
		w.need(at+"issuer", c.Issuer)
		w.need(at+"audience", c.Audience)
		if len(c.Keys) == 0 {
			w.say(at+"keys", "must name at least one key of the network's")
		}
	default:
		w.say(at+"mode", "must be http or simulator, or left out")
	}
	seen := map[string]bool{}
	for i, k := range c.Keys {
		key := index(at+"keys", i)
		w.need(key+".kid", k.ID)
		w.need(key+".publicKeyFile", k.PublicKeyFile)
		if seen[k.ID] {
			w.say(key+".kid", "is that of another key")
		}
		seen[k.ID] = true
	}
}
