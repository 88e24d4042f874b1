package config_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/config"
)

const day = 24 * time.Hour

// What decisions and passcodes are unless the file says otherwise.
var (
	usualDecisions = config.Decisions{
		Life: day, Session: 30 * time.Minute, Within: 500 * time.Millisecond, PasscodeFresh: 10 * time.Minute, CallFresh: time.Hour,
		ChannelTenure: 30 * day, CredentialWindow: 60 * day, AppTenure: 30 * day, DeviceTenure: 30 * day, YellowScore: 30, OrangeScore: 60, RedScore: 90,
	}
	usualPasscodes = config.Passcodes{Digits: 6, Attempts: 3, Life: 5 * time.Minute, PerHour: 5}
)

func TestFaultsOfConnectorDecisionsAndPasscodesAreNamed(t *testing.T) {
	const (
		key  = "keys: [{kid: k, publicKeyFile: n.pem}]"
		good = "connector: {mode: http, url: https://network.example, issuer: bank, audience: network, " + key + "}"
	)
	push := func(text string) string {
		return with(t, "  testRootFile: root.pem\n", "  testRootFile: root.pem\n  "+text+"\n")
	}
	load(t, push(good))
	load(t, push("connector: {mode: simulator, noticesFile: notices}"))
	for text, want := range map[string][]string{
		"connector: {mode: mock}":      {"pushProvisioning.connector.mode must be http or simulator, or left out"},
		"connector: {mode: simulator}": {"pushProvisioning.connector.noticesFile is missing"},
		"connector: {mode: http}": {
			"pushProvisioning.connector.url is missing", "pushProvisioning.connector.issuer is missing",
			"pushProvisioning.connector.audience is missing", "pushProvisioning.connector.keys must name at least one key of the network's",
		},
		"connector: {mode: http, url: \"http://network.example\", issuer: i, audience: a, keys: [{}, {}]}": {
			"pushProvisioning.connector.url must begin with https://",
			"pushProvisioning.connector.keys[0].kid is missing", "pushProvisioning.connector.keys[0].publicKeyFile is missing",
			"pushProvisioning.connector.keys[1].kid is missing", "pushProvisioning.connector.keys[1].publicKeyFile is missing",
			"pushProvisioning.connector.keys[1].kid is that of another key",
		},
		"statements: [{kid: k}, {kid: k}]": {
			"pushProvisioning.statements[0].tenant is missing", "pushProvisioning.statements[0].publicKeyFile is missing",
			"pushProvisioning.statements[1].tenant is missing", "pushProvisioning.statements[1].publicKeyFile is missing",
			"pushProvisioning.statements[1].kid is that of another key of the tenant",
		},
		"decisions: {within: -1s}":        {"pushProvisioning.decisions.within must be positive"},
		"decisions: {passcodeFresh: 61m}": {"pushProvisioning.decisions.passcodeFresh must be at most 1h: a passcode is kept no longer"},
		"decisions: {yellowScore: 61}":    {"pushProvisioning.decisions.yellowScore must be 1 to orangeScore, that at most redScore, and that at most 101"},
		"passcodes: {digits: 5, attempts: 11, life: 2h, perHour: 101}": {
			"pushProvisioning.passcodes.digits must be 6 to 10", "pushProvisioning.passcodes.attempts must be 1 to 10",
			"pushProvisioning.passcodes.life must be 1s to 1h", "pushProvisioning.passcodes.perHour must be 1 to 100",
		},
	} {
		if diff := cmp.Diff(want, refused(t, push(text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// A network that approves whatever it is asked has no place where cards are real.
func TestProductionRefusesTheSimulator(t *testing.T) {
	production := with(t, "environment: test", "environment: production") + anchored
	got := refused(t, production, "MINTMARK_PUSH_PROVISIONING_CONNECTOR_MODE=simulator", "MINTMARK_PUSH_PROVISIONING_CONNECTOR_NOTICES_FILE=/n")
	if !slices.Contains(got, "pushProvisioning.connector.mode must not be simulator in production") {
		t.Errorf("refused for %q", got)
	}
}
