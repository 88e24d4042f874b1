package config

import (
	"slices"
	"time"
)

// DualControl is who may change the running service (docs/dualcontrol.md). Clients with the
// rights proposeChanges and approveChanges call the admin listener for it, with tokens.
type DualControl struct {
	// Required refuses on SIGHUP a configuration or keyring that differs from what is in use,
	// and on the admin listener an enablement: they are taken up when one client has proposed
	// them and another approved. A restart takes what the files say. Default false.
	Required bool `yaml:"required"`
	// Within is how long a proposed change can be approved, 1m to 168h. Default 24h.
	Within time.Duration `yaml:"within"`
	// Identity says what two people are: client (two clients, and two subjects) or subject (two
	// subjects, where each client is an identity provider that vouches for sub). Default client.
	Identity string `yaml:"identity"`
}

// The rights of dual control, by the names of package access.
const (
	proposeChanges = "proposeChanges"
	approveChanges = "approveChanges"
)

func (d *DualControl) defaults() {
	setDefault(&d.Within, 24*time.Hour)
	setDefault(&d.Identity, "client")
}

func (c *Config) checkDualControl(w *wrongs) {
	d := c.DualControl
	if d.Within < time.Minute || d.Within > 7*24*time.Hour {
		w.say("dualControl.within", "must be 1m to 168h")
	}
	if d.Identity != "client" && d.Identity != "subject" {
		w.say("dualControl.identity", "must be client or subject")
	}
	var propose, approve []string
	for i, cl := range c.Clients {
		p, a := cl.has(proposeChanges), cl.has(approveChanges)
		if (p || a) && (cl.Certificate != nil || cl.BoundTokens) {
			w.say(index("clients", i)+".certificate", "or boundTokens keeps it from proposing and approving changes: the admin listener has no TLS")
		}
		if p {
			propose = append(propose, cl.Issuer)
		}
		if a {
			approve = append(approve, cl.Issuer)
		}
	}
	two := slices.ContainsFunc(approve, func(a string) bool {
		return slices.ContainsFunc(propose, func(p string) bool { return d.Identity == "subject" || p != a })
	})
	if d.Required && !two {
		w.say("dualControl.required", "needs a client with the right proposeChanges and another with approveChanges, or nothing could be changed")
	}
}

// has reports whether the client holds a right, for all or for a part.
func (cl Client) has(right string) bool {
	return slices.ContainsFunc(cl.Rights, func(g Grant) bool { return g.Right == right })
}
