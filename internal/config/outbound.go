package config

import (
	"net/netip"
	"time"
)

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

func (o Outbound) check(w *wrongs) {
	if o.Timeout < 100*time.Millisecond {
		w.say("outbound.timeout", "must be at least 100ms")
	}
	for i, network := range o.AllowPrivate {
		if _, err := netip.ParsePrefix(network); err != nil {
			w.say(index("outbound.allowPrivate", i), "must be a network such as 10.1.0.0/16")
		}
	}
}
