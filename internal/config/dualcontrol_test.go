package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/config"
)

// consoles are two clients of whom one proposes and the other approves.
const consoles = `dualControl: {required: true}
clients:
  - {issuer: a, tenant: t, audience: m, keys: [{publicKeyFile: a.pem}], rights: [proposeChanges]}
  - {issuer: b, tenant: t, audience: m, keys: [{publicKeyFile: b.pem}], rights: [approveChanges]}
`

func TestDualControlNeedsTwoPeople(t *testing.T) {
	if d := load(t, least+consoles).DualControl; !d.Required || d.Within != 24*time.Hour || d.Identity != "client" {
		t.Errorf("it is %+v", d)
	}
	if d := load(t, least).DualControl; d.Required {
		t.Error("it is required without being asked for")
	}
	const one = `  - {issuer: a, tenant: t, audience: m, keys: [{publicKeyFile: a.pem}], rights: [proposeChanges, approveChanges]}` + "\n"
	load(t, least+"dualControl: {required: true, identity: subject}\nclients:\n"+one) // an identity provider
	for name, c := range map[string]struct{ text, want string }{
		"nobody approves":         {strings.Replace(consoles, "approveChanges", "readCards", 1), "dualControl.required needs a client with the right proposeChanges and another with approveChanges"},
		"nobody proposes":         {strings.Replace(consoles, "proposeChanges", "readCards", 1), "dualControl.required needs"},
		"one alone":               {"dualControl: {required: true}\nclients:\n" + one, "dualControl.required needs"},
		"too short":               {"dualControl: {within: 10s}\n", "dualControl.within must be 1m to 168h"},
		"too long":                {"dualControl: {within: 200h}\n", "dualControl.within must be 1m to 168h"},
		"an unknown identity":     {"dualControl: {identity: name}\n", "dualControl.identity must be client or subject"},
		"tokens that are bound":   {strings.Replace(consoles, "rights: [approveChanges]", "rights: [approveChanges], boundTokens: true", 1), "clients[1].certificate or boundTokens keeps it from proposing and approving changes"},
		"a right that is unknown": {"dualControl: {requires: true}\n", "requires"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(file(t, least+c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("answered %v", err)
			}
		})
	}
}
