package provisioning_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
)

// An approval is a world with a network that asks, an issuer's system that states what it
// knows, and a receiver of notices.
type approval struct {
	*world
	key   *ecdsa.PrivateKey // of the issuer's system
	cards *int              // how many there are
}

// theNetwork may ask about every card of the tenant.
var theNetwork = provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: "network", Subject: "approval"}, AnyOwner: true, RequestID: "request-2"}

// unused is a connector that is there, and not called.
type unused struct{ provisioning.Connector }

func newApproval(t testing.TB, change ...func(*provisioning.Config)) *approval {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, append(change, func(cfg *provisioning.Config) {
		cfg.Connector = unused{}
		cfg.Statements = provisioning.StatementKeys{"bank": {"core": key.Public()}, "shop": {"core": key.Public()}}
	})...)
	return &approval{world: w, key: key, cards: new(int)}
}

// newCard stores another card of the owner: what was decided about one is nothing to another.
func (a *approval) newCard() string {
	a.Helper()
	*a.cards++
	id := fmt.Sprintf("card-%d", *a.cards)
	if _, err := a.svc.StoreCard(context.Background(), owner, id, a.card(demos[0])); err != nil {
		a.Fatal(err)
	}
	return id
}

// well is a statement that speaks for the cardholder in all that it says, with changes.
func (a *approval) well(changes jwt.MapClaims) string {
	year := a.clock.Now().Add(-365 * 24 * time.Hour).Format(time.RFC3339)
	claims := jwt.MapClaims{
		"iss": owner.Issuer, "sub": owner.Subject, "iat": a.clock.Now().Unix(), "exp": a.clock.Now().Add(time.Hour).Unix(), "deviceId": "phone",
		"multiFactor": map[string]any{"at": year}, "device": map[string]any{"appSince": year, "deviceSince": year, "associated": true},
		"credentials": map[string]any{"changedAt": year, "channelId": "sms"}, "login": map[string]any{"method": "biometrics", "usual": true},
		"channel": map[string]any{"channelId": "sms", "since": year},
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return a.stated(claims, a.key, nil)
}

func (a *approval) stated(claims jwt.MapClaims, key crypto.Signer, header map[string]any) string {
	a.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	j.Header["kid"], j.Header["typ"] = "core", provisioning.StatementType
	maps.Copy(j.Header, header)
	s, err := j.SignedString(key)
	if err != nil {
		a.Fatal(err)
	}
	return s
}

// check is the network's approval check of a card that is added to the phone.
func check(card string, apple path.Color, with ...func(*provisioning.DecisionRequest)) provisioning.DecisionRequest {
	req := provisioning.DecisionRequest{ExternalCardID: card, DeviceID: "phone", Source: path.InApp, Apple: apple}
	for _, w := range with {
		w(&req)
	}
	return req
}

func stating(compact string) func(*provisioning.DecisionRequest) {
	return func(r *provisioning.DecisionRequest) { r.Statements = append(r.Statements, compact) }
}

func citing(passcode string) func(*provisioning.DecisionRequest) {
	return func(r *provisioning.DecisionRequest) { r.Passcodes = append(r.Passcodes, passcode) }
}

func code0G(r *provisioning.DecisionRequest) { r.ReasonCodes = []string{path.Code0G} }

func (a *approval) decide(req provisioning.DecisionRequest) provisioning.Decided {
	a.Helper()
	d, err := a.svc.Decide(context.Background(), theNetwork, req)
	if err != nil {
		a.Fatal(err)
	}
	return d
}

// activates reports why a token of a card may not be activated; empty if it may.
func (a *approval) activates(card, device string) provisioning.DecisionReason {
	a.Helper()
	t, err := a.rec.Open(record.Intent{Operation: record.ActivateToken, Tenant: "bank"})
	if err != nil {
		a.Fatal(err)
	}
	return a.reason(provisioning.MayActivate(context.Background(), a.svc, t, owner.Owner, card, device))
}

func (a *approval) reason(err error) provisioning.DecisionReason {
	a.Helper()
	var decision *provisioning.DecisionError
	if err != nil && !errors.As(err, &decision) {
		a.Fatal(err)
	}
	if decision == nil {
		return ""
	}
	return decision.Reason
}

// One world serves all: each promise has cards of its own.
func TestApprovals(t *testing.T) {
	a := newApproval(t)
	for _, promise := range []struct {
		name string
		test func(*testing.T, *approval)
	}{
		{"what is only said counts as not said", onlySaid},
		{"a statement counts for what it is about, while it does", statementsCount},
		{"a decision is kept, recorded, and consulted", decisionConsulted},
		{"a decline of one device is not undone by another", declineStays},
		{"the second device of a session goes Green", secondDevice},
		{"another owner's card is nobody's", othersCard},
		{"a card that is not in the vault has the owner that is named", unstoredCard},
		{"malformed checks are refused", malformedChecks},
		{"a passcode brings an Orange attempt to its activation", passcodeForOrange},
		{"a passcode counts for its card, owner and device", passcodeCounts},
		{"guesses end with the attempts", guesses},
		{"guesses of two services never exceed the attempts", guessesAtOnce},
		{"a passcode ends with its life, and with a newer one", passcodeEnds},
		{"nothing of a passcode stands in the clear", passcodeIsSealed},
		{"an activation's notice is sealed, for its receiver", activationNotice},
	} {
		t.Run(promise.name, func(t *testing.T) {
			at := *a.world
			at.TB = t
			promise.test(t, &approval{world: &at, key: a.key, cards: a.cards})
			a.clock.Add(48 * time.Hour)
		})
	}
}

func onlySaid(t *testing.T, a *approval) {
	card := a.newCard()
	d := a.decide(check(card, path.Green, func(r *provisioning.DecisionRequest) { r.Unproven = 3 }))
	if d.Path != path.Yellow || !slices.Contains(d.Reasons, provisioning.ReasonUnproven) || len(d.Required) != 2 {
		t.Errorf("decided %+v", d)
	}
	if d = a.decide(check(card, path.Green, stating(a.well(nil)))); d.Path != path.Green || len(d.Required) != 0 {
		t.Errorf("with a statement: %+v", d)
	}
}

func statementsCount(t *testing.T, a *approval) {
	card, now := a.newCard(), a.clock.Now()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	full := jwt.MapClaims{"iss": owner.Issuer, "sub": owner.Subject, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "deviceId": "phone",
		"multiFactor": map[string]any{"at": now.Format(time.RFC3339)}, "credentials": map[string]any{}}
	good := a.stated(full, a.key, nil)
	if d := a.decide(check(card, path.Green, stating(good))); d.Path != path.Green {
		t.Fatalf("a good one: %+v", d)
	}
	for name, compact := range map[string]string{
		"no statement":         "verified",
		"of another key":       a.stated(full, stranger, nil),
		"of an unknown key":    a.stated(full, a.key, map[string]any{"kid": "other"}),
		"of another type":      a.stated(full, a.key, map[string]any{"typ": "JWT"}),
		"unsigned":             good[:strings.LastIndexByte(good, '.')+1],
		"about another iss":    a.well(jwt.MapClaims{"iss": "other"}),
		"about another sub":    a.well(jwt.MapClaims{"sub": "user-2"}),
		"about another card":   a.well(jwt.MapClaims{"externalCardId": "demo-maestro-1"}),
		"about another device": a.well(jwt.MapClaims{"deviceId": "watch"}),
		"expired":              a.well(jwt.MapClaims{"iat": now.Add(-time.Hour).Unix(), "exp": now.Unix()}),
		"from the future":      a.well(jwt.MapClaims{"iat": now.Add(2 * time.Minute).Unix()}),
		"good for too long":    a.well(jwt.MapClaims{"exp": now.Add(25 * time.Hour).Unix()}),
		"with an unknown fact": a.well(jwt.MapClaims{"trusted": true}),
	} {
		d := a.decide(check(card, path.Green, stating(compact)))
		if d.Path != path.Yellow || !slices.Contains(d.Reasons, provisioning.ReasonStatement) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// Facts about an app need the device that it is on.
	if d := a.decide(check(card, path.Green, stating(a.well(jwt.MapClaims{"deviceId": nil})))); d.Path != path.Yellow {
		t.Errorf("without a device: %+v", d)
	}
	// Of two statements the one that asks for more counts.
	changed := a.well(jwt.MapClaims{"credentials": map[string]any{"changedAt": now.Add(-time.Hour).Format(time.RFC3339), "channelId": "sms"}})
	for _, both := range [][]string{{good, changed}, {changed, good}} {
		if d := a.decide(check(card, path.Green, stating(both[0]), stating(both[1]))); d.Path != path.Yellow {
			t.Errorf("of two: %+v", d)
		}
	}
	refused := a.well(jwt.MapClaims{"callCentre": map[string]any{"at": now.Format(time.RFC3339), "verified": false}})
	if d := a.decide(check(card, path.Green, stating(good), stating(refused))); d.Path != path.Red {
		t.Errorf("refused by the call centre: %+v", d)
	}
}

func decisionConsulted(t *testing.T, a *approval) {
	card := a.newCard()
	sign := func(nonce string) provisioning.DecisionReason {
		_, err := a.sign(a.request(card, nonce))
		return a.reason(err)
	}
	verify := func() provisioning.DecisionReason {
		_, err := a.svc.ActivationData(context.Background(), owner, provisioning.ActivationRequest{ExternalCardID: card, WalletType: provisioning.ApplePay})
		return a.reason(err)
	}
	if s, v, act := sign("c5846f01"), verify(), a.activates(card, ""); s != "" || v != "" || act != provisioning.NoDecision {
		t.Errorf("without a decision: sealing %q, activation data %q, activation %q", s, v, act)
	}
	d := a.decide(check(card, path.Orange, code0G, stating(a.well(nil))))
	a.requireRecorded(d)
	if s, v, act := sign("c5846f02"), verify(), a.activates(card, "phone"); s != "" || v != provisioning.DecisionRequires || act != provisioning.DecisionRequires {
		t.Errorf("with a step to do: sealing %q, activation data %q, activation %q", s, v, act)
	}
	if d.Path != path.Orange || !d.Until.Equal(a.clock.Now().Add(24*time.Hour)) {
		t.Errorf("decided %+v", d)
	}
	a.decide(check(card, path.Red, stating(a.well(nil))))
	if s, v, act := sign("c5846f03"), verify(), a.activates(card, "phone"); s != provisioning.DecisionRed || v != provisioning.DecisionRed || act != provisioning.DecisionRed {
		t.Errorf("declined: sealing %q, activation data %q, activation %q", s, v, act)
	}
	a.decide(check(card, path.Yellow, stating(a.well(nil))))
	if s, v, act := sign("c5846f03"), verify(), a.activates(card, "phone"); s != "" || v != "" || act != "" { // the nonce was freed
		t.Errorf("Green: sealing %q, activation data %q, activation %q", s, v, act)
	}
	a.clock.Add(24 * time.Hour)
	if act := a.activates(card, "phone"); act != provisioning.NoDecision {
		t.Errorf("after its time: %q", act)
	}
}

// requireRecorded requires that the last entry of the log is that of a decision.
func (a *approval) requireRecorded(d provisioning.Decided) {
	a.Helper()
	all := a.entries()
	var last struct {
		Intent record.Intent
		Result record.Result
	}
	if err := json.Unmarshal(all[len(all)-1].Body, &last); err != nil {
		a.Fatal(err)
	}
	refs := map[string]string{"decision": d.ID, "path": string(d.Path), "apple": "ORANGE", "required": fmt.Sprint(len(d.Required)),
		"stateSha256": last.Result.Refs["stateSha256"]} // which internal/audit holds against the row
	if diff := cmp.Diff(refs, last.Result.Refs); last.Intent.Operation != record.DecideProvisioning || len(last.Result.Outputs) != 1 || diff != "" {
		a.Errorf("recorded %+v %s", last, diff)
	}
}

func declineStays(t *testing.T, a *approval) {
	card := a.newCard()
	a.decide(check(card, path.Red, stating(a.well(nil))))
	onWatch := func(r *provisioning.DecisionRequest) { r.DeviceID = "watch" }
	a.decide(check(card, path.Yellow, onWatch, stating(a.well(jwt.MapClaims{"deviceId": "watch"}))))
	for device, want := range map[string]provisioning.DecisionReason{
		"phone": provisioning.DecisionRed, "watch": "", "": provisioning.DecisionRed, "tablet": provisioning.NoDecision,
	} {
		if got := a.activates(card, device); got != want {
			t.Errorf("on %q: %q, want %q", device, got, want)
		}
	}
	// One about no device in particular counts for each, if it is the later.
	a.decide(check(card, path.Red, func(r *provisioning.DecisionRequest) { r.DeviceID = "" }))
	for _, device := range []string{"phone", "watch", "", "tablet"} {
		if got := a.activates(card, device); got != provisioning.DecisionRed {
			t.Errorf("declined on all, on %q: %q", device, got)
		}
	}
	a.decide(check(card, path.Yellow, onWatch, stating(a.well(jwt.MapClaims{"deviceId": "watch"}))))
	if got := a.activates(card, "watch"); got != "" {
		t.Errorf("approved after that: %q", got)
	}
}

func secondDevice(t *testing.T, a *approval) {
	wallet := func(device, session string) func(*provisioning.DecisionRequest) {
		return func(r *provisioning.DecisionRequest) {
			r.Source, r.DeviceID, r.SessionID = path.Wallet, device, session
			r.Statements = []string{a.well(jwt.MapClaims{"deviceId": device})}
		}
	}
	for _, tc := range []struct {
		name   string
		first  path.Color
		second func(*provisioning.DecisionRequest)
		after  time.Duration
		want   path.Color
	}{
		{"same session", path.Yellow, wallet("watch", "session-1"), time.Minute, path.Green},
		{"another session", path.Yellow, wallet("watch", "session-2"), time.Minute, path.Yellow},
		{"no session", path.Yellow, wallet("watch", ""), time.Minute, path.Yellow},
		{"the same device", path.Yellow, wallet("phone", "session-1"), time.Minute, path.Yellow},
		{"too late", path.Yellow, wallet("watch", "session-1"), 30 * time.Minute, path.Yellow},
		{"after a Green", path.Green, wallet("watch", "session-1"), time.Minute, path.Yellow},
		{"after a Red", path.Red, wallet("watch", "session-1"), time.Minute, path.Yellow},
	} {
		card := a.newCard()
		a.decide(check(card, tc.first, wallet("phone", "session-1")))
		a.clock.Add(tc.after)
		if d := a.decide(check(card, path.Yellow, tc.second)); d.Path != tc.want {
			t.Errorf("%s: %+v", tc.name, d)
		}
	}
}

func othersCard(t *testing.T, a *approval) {
	card := a.newCard()
	stranger := provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: owner.Issuer, Subject: "user-2"}}
	elsewhere := theNetwork
	elsewhere.Tenant = "shop"
	for name, who := range map[string]provisioning.Caller{"another owner": stranger, "another tenant": elsewhere} {
		if _, err := a.svc.Decide(context.Background(), who, check(card, path.Yellow)); !errors.Is(err, provisioning.ErrUnknownCard) {
			t.Errorf("%s decides: %v", name, err)
		}
		if _, err := a.svc.SendPasscode(context.Background(), who, provisioning.PasscodeRequest{ExternalCardID: card, ChannelID: "sms"}); !errors.Is(err, provisioning.ErrUnknownCard) {
			t.Errorf("%s has a passcode sent: %v", name, err)
		}
	}
	posing := check(card, path.Yellow)
	posing.Owner = &owner.Owner
	if _, err := a.svc.Decide(context.Background(), stranger, posing); !errors.Is(err, provisioning.ErrUnknownCard) {
		t.Errorf("as its owner: %v", err)
	}
	// Two owners may call cards alike: what is decided about one is nothing to the other.
	own := check(card, path.Red)
	own.Owner = &stranger.Owner
	if _, err := a.svc.Decide(context.Background(), stranger, own); err != nil {
		t.Errorf("of its own: %v", err)
	}
	if got := a.activates(card, "phone"); got != provisioning.NoDecision {
		t.Errorf("the owner's card of that name: %q", got)
	}
}

func unstoredCard(t *testing.T, a *approval) {
	req := check("card-elsewhere", path.Red)
	if _, err := a.svc.Decide(context.Background(), theNetwork, req); !errors.Is(err, provisioning.ErrUnknownCard) {
		t.Errorf("without an owner: %v", err)
	}
	req.Owner = &owner.Owner
	a.decide(req)
	if got := a.activates("card-elsewhere", "phone"); got != provisioning.DecisionRed {
		t.Errorf("activation: %q", got)
	}
}

func malformedChecks(t *testing.T, a *approval) {
	for _, code := range []string{"", "0g", " 0G", "0G\n", "123456789"} {
		_, err := a.svc.Decide(context.Background(), theNetwork, check("card-1", path.Green, func(r *provisioning.DecisionRequest) { r.ReasonCodes = []string{code} }))
		var field *provisioning.FieldError
		if !errors.As(err, &field) || field.Member != "apple.reasonCodes" {
			t.Errorf("reason code %q: %v", code, err)
		}
	}
	for member, change := range map[string]func(*provisioning.DecisionRequest){
		"externalCardId":       func(r *provisioning.DecisionRequest) { r.ExternalCardID = "a/b" },
		"deviceId":             func(r *provisioning.DecisionRequest) { r.DeviceID = "a b" },
		"sessionId":            func(r *provisioning.DecisionRequest) { r.SessionID = strings.Repeat("a", 129) },
		"apple.recommendation": func(r *provisioning.DecisionRequest) { r.Apple = "BLUE" },
		"owner":                func(r *provisioning.DecisionRequest) { r.Owner = &provisioning.Owner{Issuer: "app", Subject: "a\x00"} },
		"source":               func(r *provisioning.DecisionRequest) { r.Source = "" },
		"evidence":             func(r *provisioning.DecisionRequest) { r.Statements = make([]string, 9) },
	} {
		_, err := a.svc.Decide(context.Background(), theNetwork, check("card-1", path.Green, change))
		var field *provisioning.FieldError
		if !errors.As(err, &field) || field.Member != member {
			t.Errorf("%s: %v", member, err)
		}
	}
}

func activationNotice(t *testing.T, a *approval) {
	ticket, err := a.rec.Open(record.Intent{Operation: record.ActivateToken, Tenant: "bank"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := provisioning.NoticeOfActivation(context.Background(), a.svc, ticket, provisioning.Activated{
		Owner: owner.Owner, TokenUniqueReference: "8YUZ", ExternalCardID: "card-1", Last4: "1488",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.rec.Conclude(context.Background(), ticket, record.Done(), n); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(a.deliver(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{
		"iss": owner.Issuer, "sub": owner.Subject, "tokenUniqueReference": "8YUZ", "externalCardId": "card-1", "cardLast4Digits": "1488",
		"activatedAt": a.clock.Now().Format(time.RFC3339),
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The network does not wait: a decision that comes too late was not made.
func TestDecisionThatIsTooLateIsNotMade(t *testing.T) {
	a := newApproval(t, func(cfg *provisioning.Config) { cfg.Rules.Within = time.Nanosecond })
	_, err := a.svc.Decide(context.Background(), theNetwork, check("demo-mastercard-1", path.Green))
	if err == nil {
		t.Fatal("decided")
	}
	if got := a.activates("demo-mastercard-1", "phone"); got != provisioning.NoDecision {
		t.Errorf("a decision was kept: %q", got)
	}
}

// The network waits 500 ms; this is what of them a decision takes.
func BenchmarkDecide(b *testing.B) {
	a := newApproval(b)
	req := check("demo-mastercard-1", path.Yellow, stating(a.well(nil)))
	for b.Loop() {
		a.decide(req)
	}
}
