package provisioning_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
)

// asked is what a decision was made from, as the guide's 4.2 looks at it.
type asked struct {
	card, device string
	apple        path.Color
	code0G       bool
	multiFactor  bool // proved for the device
	called       bool // the call centre has verified the cardholder
	until        time.Time
}

// forbids is what must not be activated after it, whatever else is known: the rule is written
// here a second time, from the guide.
func (a asked) forbids() string {
	switch {
	case a.apple == path.Red:
		return "RED"
	case (a.code0G || a.apple == path.Orange) && !a.called:
		return "0G without its step"
	case !a.multiFactor && !a.called:
		return "no multi-factor authentication"
	}
	return ""
}

// aToken is a token as the model has it.
type aToken struct {
	provisioning.Token
	waits bool // was last told to be INACTIVE
}

// journey is one sequence of calls with its model.
type journey struct {
	*world
	r       *rapid.T
	network *connector
	key     *ecdsa.PrivateKey
	tokens  []*aToken
	made    []asked // decisions about owner's cards, in order
}

// lastAbout gives the decisions that count for a token: the latest about its device or about
// none in particular, and without a device the latest of each.
func (j *journey) lastAbout(t *aToken) []asked {
	devices := []string{t.DeviceID}
	if t.DeviceID == "" {
		devices = nil
		for _, d := range j.made {
			devices = append(devices, d.device)
		}
	}
	var all []asked
	for _, device := range devices {
		for _, d := range slices.Backward(j.made) {
			if d.card == t.ExternalCardID && (d.device == device || d.device == "") && j.clock.Now().Before(d.until) {
				all = append(all, d)
				break
			}
		}
	}
	return all
}

// statement is signed by the issuer's systems: about owner, and what it says.
func (j *journey) statement(facts jwt.MapClaims) string {
	now := j.clock.Now()
	claims := jwt.MapClaims{"iss": owner.Issuer, "sub": owner.Subject, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": uuid.NewString()}
	for name, value := range facts {
		claims[name] = value
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	unsigned.Header["kid"], unsigned.Header["typ"] = "core", provisioning.StatementType
	signed, err := unsigned.SignedString(j.key)
	if err != nil {
		j.Fatal(err)
	}
	return signed
}

// decideOne has the network ask for a decision.
func (j *journey) decideOne() {
	flip := func(what string) bool { return rapid.Bool().Draw(j.r, what) }
	j.decide(asked{
		card:        rapid.SampledFrom([]string{"demo-mastercard-1", "demo-mastercard-2"}).Draw(j.r, "card"),
		device:      rapid.SampledFrom([]string{"", "phone", "watch"}).Draw(j.r, "device"),
		apple:       rapid.SampledFrom(path.Colors()).Draw(j.r, "Apple recommends"),
		code0G:      flip("0G"),
		multiFactor: flip("multi-factor"), called: flip("called"),
	})
}

// approveOne has the network ask about a token of owner's of which all is well, and owner for its
// activation: what may be activated is no rarity.
func (j *journey) approveOne() {
	t := rapid.SampledFrom(j.tokens[:3]).Draw(j.r, "token")
	j.decide(asked{card: t.ExternalCardID, device: t.DeviceID, apple: path.Green, multiFactor: true, called: true})
	j.activate(t, owner)
}

// decide has the network ask for a decision from what is said.
func (j *journey) decide(a asked) {
	flip := func(what string) bool { return rapid.Bool().Draw(j.r, what) }
	a.until = j.clock.Now().Add(24 * time.Hour)
	req := provisioning.DecisionRequest{ExternalCardID: a.card, DeviceID: a.device, SessionID: "session", Apple: a.apple, Source: path.InApp}
	if a.code0G {
		req.ReasonCodes = []string{"0G"}
	}
	if flip("from Wallet") {
		req.Source = path.Wallet
	}
	req.Statements = []string{j.statement(jwt.MapClaims{"credentials": jwt.MapClaims{}})}
	if a.multiFactor {
		req.Statements = append(req.Statements, j.statement(jwt.MapClaims{"deviceId": "phone", "multiFactor": jwt.MapClaims{"at": j.clock.Now()}}))
		a.multiFactor = a.device == "phone" // of another it says nothing
	}
	if a.called {
		req.Statements = append(req.Statements, j.statement(jwt.MapClaims{"callCentre": jwt.MapClaims{"at": j.clock.Now(), "verified": true}}))
	}
	if flip("says more without proof") {
		req.Unproven = 1
	}
	if _, err := j.svc.Decide(context.Background(), network, req); err != nil {
		j.r.Fatal(err)
	}
	j.made = append(j.made, a)
}

// tellOne has the network tell of a token, but not that it is active.
func (j *journey) tellOne() {
	t := rapid.SampledFrom(j.tokens).Draw(j.r, "token")
	next := t.Token
	next.Status = rapid.SampledFrom([]provisioning.TokenStatus{provisioning.TokenInactive, provisioning.TokenSuspended, "PENDING"}).Draw(j.r, "status")
	if _, err := j.svc.PutToken(context.Background(), network, next); err == nil {
		t.Status, t.waits = next.Status, next.Status == provisioning.TokenInactive
	}
}

// activateOne has somebody ask for a token to be activated.
func (j *journey) activateOne() {
	t := rapid.SampledFrom(j.tokens).Draw(j.r, "token")
	j.activate(t, rapid.SampledFrom([]provisioning.Caller{owner, another, network}).Draw(j.r, "who"))
}

// activate asks for a token to be activated, and holds what comes of it against the model.
func (j *journey) activate(t *aToken, who provisioning.Caller) {
	outcome := rapid.SampledFrom([]provisioning.ActivationOutcome{provisioning.ActivationApproved, provisioning.ActivationDeclined, provisioning.ActivationFailed}).Draw(j.r, "network")
	j.network.answers(outcome, "")
	j.network.asked = 0
	out, err := j.svc.ActivateToken(context.Background(), who, t.Reference)
	if err != nil {
		j.r.Fatal(err)
	}
	mayAsk := who.AnyOwner || who.Subject == t.Subject
	why := ""
	if !mayAsk {
		why = "not the owner"
	} else if !t.waits {
		why = "it does not wait for it"
	} else if last := j.lastAbout(t); len(last) == 0 {
		why = "no decision"
	} else {
		for _, d := range last {
			if forbids := d.forbids(); forbids != "" {
				why = forbids
			}
		}
	}
	active := mayAsk && t.Status == provisioning.TokenActive
	switch {
	case why != "" && (j.network.asked > 0 || out.Response == provisioning.Approved && !active):
		j.r.Fatalf("%s of %s for %s: %+v, the network was asked %d times, though %s", t.Reference, t.Subject, who.Subject, out, j.network.asked, why)
	case out.Response == provisioning.Approved && !active:
		t.Status, t.waits = provisioning.TokenActive, false
	case active && (out.Response != provisioning.Approved || j.network.asked > 0) && t.Status == provisioning.TokenActive:
		j.r.Fatalf("active already: %+v", out)
	}
}

// No sequence of calls activates a token after RED, after 0G without its step, without
// multi-factor authentication, without a decision, or for another owner.
func TestNoSequenceOfCallsActivatesWhatIsForbidden(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &connector{kept: map[string]provisioning.ActivationAnswer{}}
	w := newWorld(t, func(cfg *provisioning.Config) {
		cfg.Connector = c
		cfg.Statements = provisioning.StatementKeys{owner.Tenant: {"core": crypto.PublicKey(key.Public())}}
	})
	round, activated := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		w.clock.Add(25 * time.Hour) // what was decided before does not count
		j := &journey{world: w, r: r, network: c, key: key}
		for i, of := range []struct {
			provisioning.Caller
			card, device string
		}{{owner, "demo-mastercard-1", "phone"}, {owner, "demo-mastercard-1", "watch"}, {owner, "demo-mastercard-2", ""}, {another, "demo-mastercard-1", "phone"}} {
			tk := provisioning.Token{Owner: of.Owner, Reference: fmt.Sprintf("%d-%d", round, i), ExternalCardID: of.card, DeviceID: of.device, Status: provisioning.TokenInactive}
			if _, err := w.svc.PutToken(context.Background(), network, tk); err != nil {
				r.Fatal(err)
			}
			j.tokens = append(j.tokens, &aToken{tk, true})
		}
		for range rapid.IntRange(2, 12).Draw(r, "calls") {
			switch rapid.SampledFrom([]string{"decide", "decide", "activate", "activate", "activate", "approve", "tell", "wait"}).Draw(r, "call") {
			case "decide":
				j.decideOne()
			case "activate":
				j.activateOne()
			case "approve":
				j.approveOne()
			case "tell":
				j.tellOne()
			case "wait":
				w.clock.Add(time.Duration(rapid.IntRange(0, 25).Draw(r, "hours")) * time.Hour)
			}
		}
		for _, t := range j.tokens {
			if t.Status == provisioning.TokenActive {
				activated++
			}
		}
	})
	if activated == 0 {
		t.Error("nothing was ever activated")
	}
}
