package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// A pass is a payment pass as PassKit shows it to the issuer's app.
type pass struct {
	serialNumber            string
	deviceAccountIdentifier string
	device                  string
	activated               bool // PassActivationState; false: requiresActivation
}

// wallet is a phone with a paired watch: passes() and remoteSecureElementPasses.
type wallet struct{ passes []*pass }

// references are what the app sends of all passes.
func (w *wallet) references() []string {
	all := []string{}
	for _, p := range w.passes {
		all = append(all, p.deviceAccountIdentifier)
	}
	return all
}

// stage is the guide's cast: the issuer's app on a device, the network, and Apple, about a
// server that plays the issuer host. All calls are the development client's, who has every
// right.
type stage struct {
	*server
	wallet  wallet
	session string
}

// app posts as the issuer's app does: 200 is success, and nothing else.
func (s *stage) app(path string, body, into any) {
	s.t.Helper()
	if a := s.call(http.MethodPost, "/issuer/push-provisioning"+path, body, into); a.status != http.StatusOK {
		s.t.Fatalf("%s: answered %d: %s", path, a.status, a.body)
	}
}

// statuses are what the app shows of the cards, by the iOS guide's mapping of one row a card.
func (s *stage) statuses() map[string]string {
	s.t.Helper()
	var tokens []struct{ ExternalCardID, TokenStatus *string }
	s.app("/tokens/searches?groupBy=card", request{"walletType": "APPLE_PAY", "tokenUniqueReferences": s.wallet.references()}, &tokens)
	byCard := map[string]string{}
	for _, t := range tokens {
		if _, twice := byCard[*t.ExternalCardID]; twice {
			s.t.Fatalf("%s comes twice, and the app's dictionary traps", *t.ExternalCardID)
		}
		byCard[*t.ExternalCardID] = map[string]string{"ACTIVE": "active", "INACTIVE": "requiresActivation"}[*t.TokenStatus]
	}
	return byCard
}

// offered is what the wallet extension makes of cards/searches: status, suffix, name and
// devices of a card.
func (s *stage) offered(card string) string {
	s.t.Helper()
	var cards []struct {
		Identifier, Title, CardholderName, PrimaryAccountSuffix, WalletStatus string
		Tokens                                                                []struct{ TokenUniqueReference, WalletStatus string }
	}
	s.app("/cards/searches", request{"walletType": "APPLE_PAY", "tokenUniqueReferences": s.wallet.references()}, &cards)
	for _, c := range cards {
		if c.Identifier != card {
			continue
		}
		line := strings.Join([]string{c.WalletStatus, c.Title, c.CardholderName, c.PrimaryAccountSuffix}, ", ")
		for _, t := range c.Tokens {
			i := slices.IndexFunc(s.wallet.passes, func(p *pass) bool { return p.deviceAccountIdentifier == t.TokenUniqueReference })
			line += ", " + s.wallet.passes[i].device + " " + t.WalletStatus
		}
		return line
	}
	return "not offered"
}

// statement is what the issuer's systems state about the cardholder, signed by their key.
func (s *stage) statement(facts claims) string {
	s.t.Helper()
	now := time.Now()
	all := jwt.MapClaims{"iss": s.info.Clients.Issuer.Iss, "sub": s.info.Clients.Issuer.Sub, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": uuid.NewString()}
	for name, value := range facts {
		all[name] = value
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, all)
	unsigned.Header["kid"], unsigned.Header["typ"] = s.info.Clients.Issuer.Kid, "mintmark-statement+jwt"
	signed, err := unsigned.SignedString(s.privateKey(s.info.Clients.Issuer.KeyFile))
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}

// trusted is what is stated of a cardholder whom the issuer knows, on a device.
func (s *stage) trusted(device string) request {
	at := func(days int) string { return time.Now().AddDate(0, 0, -days).UTC().Format(time.RFC3339) }
	return request{"statement": s.statement(claims{
		"deviceId": device, "multiFactor": claims{"at": at(200)}, "credentials": claims{"changedAt": at(300), "channelId": "letter"},
		"device": claims{"appSince": at(300), "deviceSince": at(300), "associated": true}, "login": claims{"method": "biometrics", "usual": true},
	})}
}

// approve is the network's approval check; it gives the path and how many steps are asked for.
func (s *stage) approve(card, device, source string, apple request, evidence ...request) string {
	s.t.Helper()
	var out struct {
		Path     string
		Required []any
	}
	a := s.call(http.MethodPost, "/v1/provisioning-decisions", request{
		"externalCardId": card, "deviceId": device, "sessionId": s.session, "source": source, "apple": apple, "evidence": evidence,
	}, &out)
	if a.status != http.StatusOK {
		s.t.Fatalf("the decision: %d %s", a.status, a.body)
	}
	return fmt.Sprintf("%s, %d required", out.Path, len(out.Required))
}

// tell is the network telling the issuer host of a token; it gives the status.
func (s *stage) tell(p *pass, card, status, path string) int {
	s.t.Helper()
	return s.call(http.MethodPut, "/v1/wallet-tokens/"+p.deviceAccountIdentifier, request{
		"owner":          request{"iss": s.info.Clients.Issuer.Iss, "sub": s.info.Clients.Issuer.Sub},
		"externalCardId": card, "deviceId": p.device, "tokenStatus": status, "authorizationPath": path, "panUniqueReference": "F-" + card,
	}, nil).status
}

// add has the device get a pass for a new token of a card.
func (s *stage) add(device string) *pass {
	p := &pass{serialNumber: "serial-" + uuid.NewString(), deviceAccountIdentifier: "DTOKEN" + strings.ReplaceAll(uuid.NewString(), "-", ""), device: device}
	s.wallet.passes = append(s.wallet.passes, p)
	return p
}

// activate is method B: the app asks the issuer host, by what it finds at the pass.
func (s *stage) activate(p *pass) string {
	s.t.Helper()
	var out struct {
		IssuerMobileAppAuthResponse string
		CardLast4Digits, Comment    *string
	}
	s.app("/tokens/activations", request{"tokenUniqueReference": p.deviceAccountIdentifier}, &out)
	line := out.IssuerMobileAppAuthResponse
	for _, more := range []*string{out.CardLast4Digits, out.Comment} {
		if more != nil {
			line += " " + *more
		}
	}
	return line
}

// told are the notices that the network was told, of a kind: their bodies.
func (s *stage) told(kind string) []map[string]string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "notices.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var all []map[string]string
	for line := range strings.Lines(string(b)) {
		var n struct {
			Kind string
			Body map[string]string
		}
		if json.Unmarshal([]byte(line), &n) == nil && n.Kind == kind { // the last may be half written
			all = append(all, n.Body)
		}
	}
	return all
}

// asked is how often the issuer host was asked to activate a token that it knows, as the
// record has it.
func (s *stage) asked() int { return s.entries("intent", `"operation":"push-provisioning.activate"`) }

// toldOf waits until a cardholder was told of so many activations, and of no more.
func (s *stage) toldOf(all ...*pass) {
	s.t.Helper()
	s.await(func() bool { return len(s.told("token-activated")) >= len(all) })
	var want, got []string
	for _, p := range all {
		want = append(want, p.deviceAccountIdentifier)
	}
	for _, n := range s.told("token-activated") {
		got = append(got, n["tokenUniqueReference"])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		s.t.Errorf("told of %q, want %q", got, want)
	}
}

func (s *stage) is(what, got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// The guide's sequences, from the first look at Wallet to the active pass: In-App
// Provisioning (6.2.1), and In-App Verification (6.3.1) by method A and by method B.
func TestTheGuidesSequences(t *testing.T) {
	dir := t.TempDir()
	s := &stage{server: start(t, dir, nil, nil), session: uuid.NewString()}
	phone := s.provisionInApp()
	watch := s.verifyByOTP()
	third := s.verifyThroughTheNetwork()
	s.toldOf(phone, watch, third)
	s.declined()
	if n := s.count(`SELECT COUNT(*) FROM wallet_tokens WHERE status = 'ACTIVE'`); n != 3 {
		t.Errorf("%d tokens are active", n)
	}
	s.stop()
	if out, ok := auditVerify(t, "--config", filepath.Join(dir, "mintmark.yaml")); !ok {
		t.Errorf("the log does not verify:\n%s", out)
	}
	files := map[string][]byte{"log": []byte(s.stderr.String())}
	readAll(t, dir, files)
	for where, content := range files {
		for _, canary := range []string{"5204245250001488", "5555555555554444"} {
			if form := leaks(content, canary); form != "" {
				t.Errorf("%s stands in %s, %s", canary, where, form)
			}
		}
	}
}

// provisionInApp is 6.2.1: a card added to the phone from the app.
func (s *stage) provisionInApp() *pass {
	s.t.Helper()
	const card = "demo-mastercard-1"
	// 1, 2: nothing is in Wallet; the app shows the button, the extension an entry.
	s.is("before", fmt.Sprint(s.statuses()), fmt.Sprint(map[string]string{}))
	s.is("offered", s.offered(card), "notAdded, Mastercard, John Appleseed, 1488")
	// 2.5, 2.6: Apple's certificates, nonce and signature go to the issuer host.
	req := s.newRequest().with(request{"externalCardId": nil, "cardId": card, "deviceId": "phone"})
	var sealed map[string]string
	s.app("/signed-cards", req, &sealed)
	// 2.7 to 2.9, and 4: Apple opens the payload, the network verifies the activation data.
	seen := s.openAll([]map[string]string{sealed})[0]
	if !strings.Contains(seen.Payload, `"nonce":"`+req["nonce"].(string)+`"`) || !seen.Activation.OK || seen.Activation.Kind != "tav" {
		s.t.Fatalf("Apple and the network see %+v", seen)
	}
	// 5: the network's approval check. Apple's Yellow from the app becomes Green.
	s.is("decision", s.approve(card, "phone", "in-app", request{"recommendation": "YELLOW"}, s.trusted("phone")), "GREEN, 0 required")
	// 6, 7: the network activates, and tells; the app finds the pass active.
	p := s.add("phone")
	if status := s.tell(p, card, "ACTIVE", "GREEN"); status != 200 {
		s.t.Fatalf("the network's message: %d", status)
	}
	p.activated = true
	s.is("after", s.statuses()[card], "active")
	s.is("offered", s.offered(card), "active, Mastercard, John Appleseed, 1488, phone active")
	s.is("activation of what is active", s.activate(p), "APPROVED 1488")
	return p
}

// verifyByOTP is 6.3.1 with method A: the same card, added to the watch from Wallet, is
// activated with the network's one-time password.
func (s *stage) verifyByOTP() *pass {
	s.t.Helper()
	const card = "demo-mastercard-1"
	before := s.asked()
	p := s.add("watch")
	s.tell(p, card, "INACTIVE", "YELLOW")
	s.is("the card", s.statuses()[card], "requiresActivation")
	s.is("per device", s.offered(card), "requiresActivation, Mastercard, John Appleseed, 1488, phone active, watch requiresActivation")
	// A 1, 2: the app gets activation data.
	var data map[string]string
	s.app("/activation-data", request{"externalCardId": card, "tokenUniqueReference": p.deviceAccountIdentifier, "deviceId": "watch"}, &data)
	// A 3 to 6: Wallet, Apple and the network; the network validates the data and activates.
	var sealed map[string]string
	s.app("/signed-cards", s.newRequest(), &sealed) // whose payload tells the network's side the card
	sealed["activationData"] = data["activationData"]
	if seen := s.openAll([]map[string]string{sealed})[0]; !seen.Activation.OK {
		s.t.Fatalf("the network sees %+v", seen.Activation)
	}
	s.tell(p, card, "ACTIVE", "YELLOW")
	p.activated = true
	s.is("per device", s.offered(card), "active, Mastercard, John Appleseed, 1488, phone active, watch active")
	if n := s.asked(); n != before {
		s.t.Errorf("the issuer host was asked to activate: %d, before %d", n, before)
	}
	return p
}

// verifyThroughTheNetwork is 6.3.1 with method B: a card that was typed into Wallet is
// activated by the issuer host through the network, once its decision permits.
func (s *stage) verifyThroughTheNetwork() *pass {
	s.t.Helper()
	const card = "demo-mastercard-2"
	p := s.add("phone")
	s.tell(p, card, "INACTIVE", "YELLOW")
	s.is("the card", s.statuses()[card], "requiresActivation")
	s.is("without a decision", s.activate(p), "DECLINED no-decision")
	s.is("a Yellow from Wallet", s.approve(card, "phone", "wallet", request{"recommendation": "YELLOW"}, s.trusted("phone")), "YELLOW, 1 required")
	s.is("with a step to do", s.activate(p), "DECLINED decision-requires")
	// The step: a passcode to a channel that has been the cardholder's for long.
	channel := s.statement(claims{"channel": claims{"channelId": "sms-1", "since": time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)}})
	var sent struct{ PasscodeID string }
	if a := s.call(http.MethodPost, "/v1/one-time-passcodes", request{"externalCardId": card, "channelId": "sms-1", "statement": channel}, &sent); a.status != 200 {
		s.t.Fatalf("the passcode: %d %s", a.status, a.body)
	}
	s.await(func() bool { return len(s.told("one-time-passcode")) == 1 })
	var verified struct{ Verified bool }
	a := s.call(http.MethodPost, "/v1/one-time-passcodes/"+sent.PasscodeID+"/verifications", request{"passcode": s.told("one-time-passcode")[0]["passcode"]}, &verified)
	if !verified.Verified {
		s.t.Fatalf("the passcode: %d %s", a.status, a.body)
	}
	s.is("with the step done", s.approve(card, "phone", "wallet", request{"recommendation": "YELLOW"}, s.trusted("phone"), request{"passcode": sent.PasscodeID}), "YELLOW, 0 required")
	// B 1 to 4: the app finds the pass by the deep link's serial number, and asks.
	i := slices.IndexFunc(s.wallet.passes, func(w *pass) bool { return w.serialNumber == p.serialNumber })
	s.is("activation", s.activate(s.wallet.passes[i]), "APPROVED 4444 simulated")
	p.activated = true
	s.is("again", s.activate(p), "APPROVED 4444")
	s.is("after", s.statuses()[card], "active")
	s.is("somebody else's", s.activate(&pass{deviceAccountIdentifier: "nobodys"}), "FAILED unknown-wallet-token")
	// What the network tells late cannot undo it.
	if status := s.tell(p, card, "INACTIVE", "YELLOW"); status != 409 {
		s.t.Errorf("late, the network's message is answered %d", status)
	}
	return p
}

// declined is a card that the decision is Red for: not sealed, not offered, not activated.
func (s *stage) declined() {
	s.t.Helper()
	const card = "demo-maestro-1"
	s.is("before", s.offered(card), "notAdded, Maestro, Jane Appleseed, 8453")
	p := s.add("phone")
	s.tell(p, card, "INACTIVE", "RED")
	s.is("a decline", s.approve(card, "phone", "in-app", request{"recommendation": "RED"}, s.trusted("phone")), "RED, 0 required")
	s.is("activation", s.activate(p), "DECLINED decision-red")
	s.is("offered", s.offered(card), "not offered")
	a := s.mustPost(s.requestFor(card))
	if a.status != 403 || a.problem() != "decision" {
		s.t.Errorf("sealed: %d %s", a.status, a.problem())
	}
}
