package integration

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mintmark/mintmark/passkit/passtest"
)

// freshened makes anew what a caller of an operation has to: nonces, certificates, encrypted
// cards, names that earlier answers gave.
var freshened = map[string]func(*rehearsal, *sending){
	"signCard": func(r *rehearsal, s *sending) {
		fresh := r.newRequest()
		for _, name := range []string{"certificates", "nonce", "nonceSignature"} {
			member(name, fresh[name])(s)
		}
	},
	"putCard": func(r *rehearsal, s *sending) {
		member("encryptedCard", r.encryptCards(map[string]any{"header": r.cardHeader(s.names["externalCardId"], uuid.NewString(), nil), "plaintext": newCardData})[0])(s)
	},
	"sendPasscode":   func(r *rehearsal, s *sending) { member("statement", r.channelStatement())(s) },
	"verifyPasscode": func(r *rehearsal, s *sending) { s.names["passcodeId"] = r.keep["passcodeId"] },
	"decideProvisioning": func(r *rehearsal, s *sending) {
		member("evidence", []any{map[string]any{"passcode": r.keep["passcodeId"]}, r.trusted("04F15F1A3C")})(s)
	},
	"checkMerchantToken":          func(r *rehearsal, s *sending) { as(r.merchant().token(nil))(s) },
	"checkMerchantTokenOfVersion": func(r *rehearsal, s *sending) { as(r.merchant().token(nil))(s) },
	"createAppleProximityToken":   func(r *rehearsal, s *sending) { as(r.merchant().token(nil))(s) },
	"putPassAsset":                func(r *rehearsal, s *sending) { s.body = icon(r.t) },
	"putPassType":                 withIcon,
	"putPass":                     withIcon,
	"registerPassDevice":          asDevice,
	"unregisterPassDevice":        asDevice,
	"fetchPass":                   asDevice,
	"personalizePass":             func(_ *rehearsal, s *sending) { s.names["serialNumber"] = "member-1" },
	"getKeyCertificate":           func(r *rehearsal, s *sending) { s.names["kid"] = r.keep["kid"] },
	"proposeChange":               func(r *rehearsal, s *sending) { as(r.people["ada"].token(nil))(s) },
	"listChanges":                 func(r *rehearsal, s *sending) { as(r.people["ada"].token(nil))(s) },
	"getChange":                   asApprover,
	"approveChange":               asApprover,
	"rejectChange":                asApprover,
	"importCards":                 func(_ *rehearsal, s *sending) { s.body = []byte(`{"encryptedCard":"no card"}` + "\n") },
}

func withIcon(r *rehearsal, s *sending) {
	member("files", map[string]any{"icon.png": r.keep["icon"]})(s)
}

func asDevice(r *rehearsal, s *sending) { s.authorization = "ApplePass " + r.keep["passToken"] }

// asApprover names the change that is there.
func asApprover(r *rehearsal, s *sending) {
	s.names["id"] = r.keep["change"]
	if s.op.OperationID == "approveChange" {
		member("sha256", r.keep["digest"])(s)
	}
	as(r.people["grace"].token(nil))(s)
}

func icon(t *testing.T) []byte {
	t.Helper()
	png, err := passtest.PNG(29, 29)
	if err != nil {
		t.Fatal(err)
	}
	return png
}

// channelStatement proves since when the channel of the example is the cardholder's.
func (s *stage) channelStatement() string {
	return s.statement(claims{"channel": claims{"channelId": "sms-1", "since": time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)}})
}

// notRehearsed are the answers, and the examples, that no caller can bring about here, and why.
var notRehearsed = map[string]string{
	"getCard 422":               "the data of a card that is stored kept to the rules; they break them when the configuration has another product of its name",
	"createPassBundle 422":      "what was put made a pass; it makes none when its certificate has ended since",
	"approveChange 422":         "the document was good when it was proposed",
	"putEnablement 403":         "the development server lets one person change it; changes.txtar has a service that does not",
	"putPassAsset 400":          "it is the answer to a body that ended early, whose sender has gone",
	"getReady 503":              "takes a token that is gone; recovery_test.go has that",
	"getHealth 503":             "takes a token that is gone; recovery_test.go has that",
	"example approval-required": "see putEnablement 403",
	"example no-connector":      "the development server has a connector",
	"example internal":          itsFault,
}

// Why no operation has its 500 rehearsed, and no reading its 503.
const (
	itsFault = "it is a fault of the service"
	reads    = "a database that takes no writers still reads; one that does not read cannot be made here"
)

// reading are operations that write nothing, or have written it before.
var reading = []string{
	"checkMerchantToken", "checkMerchantTokenOfVersion", "getCheckpoint", "getEnablement", "getJWKS", "getKeyCertificate", "getLog", "getPass",
	"getPassType", "getTile", "listChanges", "getChange", "listCheckpoints", "listEntries", "listLogs", "listUpdatedPasses",
	"logPassDevice", "rekeyCards",
}

// All that the description shows is sent to a server, and comes back as it says: each status of
// each operation, and each example of an error word for word.
func TestEveryExampleOfTheContract(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, []string{"MINTMARK_API_REQUEST_TIMEOUT=8s", "MINTMARK_PASSES_MAX_REGISTRATIONS=1"})
	r := newRehearsal(t, s)
	r.invite()
	r.cardsAndWallets()
	r.decisions()
	r.merchants()
	r.passes()
	r.operators()
	r.published()
	r.atTheDoor()
	r.withoutDatabase()

	excused := maps.Clone(notRehearsed)
	for id, op := range r.ops {
		if op.Responses.Value("500") != nil && id != "createAppleProximityToken" {
			excused[id+" 500"] = itsFault
		}
		if slices.Contains(reading, id) {
			excused[id+" 503"] = reads
		}
	}
	statuses, examples := r.promised()
	for _, missing := range slices.Sorted(maps.Keys(statuses)) {
		accounted(t, excused, missing, r.came[missing])
	}
	for _, missing := range slices.Sorted(maps.Keys(examples)) {
		accounted(t, excused, "example "+missing, r.shown[missing])
	}
	for name := range excused {
		if !statuses[name] && !examples[strings.TrimPrefix(name, "example ")] {
			t.Errorf("%q is no answer of the description", name)
		}
	}
}

// accounted requires that an answer came, or is listed with the reason why it could not; and
// not both.
func accounted(t *testing.T, excused map[string]string, what string, came bool) {
	t.Helper()
	_, listed := excused[what]
	switch {
	case came && listed:
		t.Errorf("%s is listed as one that cannot be brought about, and came", what)
	case !came && !listed:
		t.Errorf("%s did not come", what)
	}
}

// invite has the server know further clients: one that may call once, one whose tokens are for
// one use, one that may have little signed, and two operators.
func (r *rehearsal) invite() {
	r.t.Helper()
	const all = "signCards, createActivationData, manageCards, readCards, signMerchantTokens, createAppleProximityToken, " +
		"decideProvisioning, sendPasscodes, verifyPasscodes, manageWalletTokens, searchTokens, activateTokens, searchCards, readEnablement"
	var single strings.Builder
	for right := range strings.SplitSeq(all+", proposeChanges, approveChanges", ", ") {
		fmt.Fprintf(&single, "{right: %s, singleUse: true, anyOwner: true}, ", right)
	}
	const signs = "    merchantTokens: {subjects: [\"*\"], audiences: [\"*\"], businessNames: [\"*\"], categoryCodes: [\"*\"]}\n    acquirer: dev-acquirer\n"
	var b strings.Builder
	for name, more := range map[string]string{
		"throttled": "    rights: [" + all + ", managePasses, proposeChanges, approveChanges]\n    rateLimit: {perSecond: 0.0001, burst: 1}\n" + signs,
		"once":      "    rights: [" + strings.TrimSuffix(single.String(), ", ") + "]\n" + signs,
		"narrow":    "    rights: [signMerchantTokens]\n    merchantTokens: {subjects: [\"*\"], audiences: [\"*\"], businessNames: [\"*\"], categoryCodes: [\"5812\"]}\n",
		"ada":       "    rights: [proposeChanges, approveChanges]\n",
		"grace":     "    rights: [proposeChanges, approveChanges]\n",
	} {
		p := newParty(r.t, name, r.info.Clients.Issuer.Aud)
		p.claims = r.info.Clients.Merchant.Claims
		r.people[name] = p
		file := filepath.Join(r.dir, name+".pub.pem")
		if err := os.WriteFile(file, []byte(p.publicPEM()), 0o600); err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(&b, "  - issuer: %s\n    tenant: dev\n    audience: %s\n    keys: [{kid: %s, publicKeyFile: %q}]\n%s", name, p.aud, p.kid, file, more)
	}
	config := filepath.Join(r.dir, "mintmark.yaml")
	text := strings.Replace(readFile(r.t, config), "clients:\n", "clients:\n"+b.String(), 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.hangup("configuration reloaded", "clients=7")
}

func (r *rehearsal) cardsAndWallets() {
	r.t.Helper()
	stored := r.example("putCard")
	r.deliver(stored, 200)
	r.deliver(stored, 409)
	r.send("putCard", 422, member("encryptedCard", "a.b.c.d.e"))
	expired := map[string]any{"header": r.cardHeader("card-7", uuid.NewString(), nil), "plaintext": strings.Replace(newCardData, "11/39", "11/19", 1)}
	r.send("putCard", 422, member("encryptedCard", r.encryptCards(expired)[0]))
	r.send("getCard", 200)
	r.send("getCard", 400, named("externalCardId", "no card"))
	r.send("getCard", 404, named("externalCardId", "card-8"))
	r.send("deleteCard", 400, named("externalCardId", "no card"))
	r.send("deleteCard", 204)
	r.send("deleteCard", 404)

	sealed := r.example("signCard")
	r.deliver(sealed, 200)
	r.deliver(sealed, 409)
	r.send("signCard", 400, member("externalCardId", "no card"))
	r.send("signCard", 404, member("externalCardId", "card-8"))
	r.send("signCard", 422, func(s *sending) { slices.Reverse(s.body.(map[string]any)["certificates"].([]string)) })
	r.send("signCard", 422, member("walletType", "GOOGLE_PAY"))
	for _, plaintext := range []string{newCardData, strings.Replace(newCardData, "11/39", "11/19", 1)} {
		r.inline(plaintext)
	}
	r.send("createActivationData", 200)
	r.send("createActivationData", 404, member("externalCardId", "card-8"))
	r.send("createActivationData", 422, member("walletType", "GOOGLE_PAY"))

	r.send("activateToken", 200) // unknown as yet
	r.send("getWalletToken", 404)
	r.send("putWalletToken", 200)
	r.send("putWalletToken", 404, member("owner", map[string]any{"iss": "another", "sub": "user"}))
	r.send("getWalletToken", 200)
	r.send("searchTokens", 200)
	r.send("searchTokens", 422, member("walletType", "GOOGLE_PAY"))
	r.send("searchCards", 200)
	r.send("searchCards", 422, member("walletType", "GOOGLE_PAY"))
	r.send("getEnablement", 200)
	r.crowd()
}

// inline sends a card that is not stored: it is sealed once, and refused if its data are bad.
func (r *rehearsal) inline(plaintext string) {
	r.t.Helper()
	s := r.example("signCard")
	nonce, err := hex.DecodeString(s.body.(map[string]any)["nonce"].(string))
	if err != nil {
		r.t.Fatal(err)
	}
	digest := sha256.Sum256(nonce)
	message := r.encryptCards(map[string]any{"header": r.cardHeader("demo-mastercard-1", uuid.NewString(), map[string]any{"nonceSha256": base64.RawURLEncoding.EncodeToString(digest[:])}), "plaintext": plaintext})[0]
	member("encryptedCard", message)(s)
	if plaintext != newCardData {
		r.deliver(s, 422)
		return
	}
	r.deliver(s, 200)
	again := r.example("signCard") // with a nonce of its own
	member("encryptedCard", message)(again)
	r.deliver(again, 422)
}

// crowd is an owner of more cards than one answer holds.
func (r *rehearsal) crowd() {
	r.t.Helper()
	const many = 101
	var cards []map[string]any
	for i := range many {
		cards = append(cards, map[string]any{"header": r.cardHeader(fmt.Sprintf("crowd-%d", i), uuid.NewString(), map[string]any{"sub": "crowd"}), "plaintext": newCardData})
	}
	messages := r.encryptCards(cards...)
	for tries := 0; len(messages) > 0 && tries < 5; tries++ { // those that a busy machine had no time for
		var lines strings.Builder
		for _, message := range messages {
			fmt.Fprintf(&lines, "{\"encryptedCard\":%q}\n", message)
		}
		var became struct{ Results []string }
		r.send("importCards", 200, rawBody([]byte(lines.String()))).into(r.t, &became)
		var again []string
		for i, result := range became.Results {
			if result == "unavailable" {
				again = append(again, messages[i])
			}
		}
		messages = again
	}
	r.send("searchCards", 422, as(r.issuer().token(claims{"sub": "crowd"})))
}

func (r *rehearsal) decisions() {
	r.t.Helper()
	sent := r.send("sendPasscode", 200)
	var passcode struct{ PasscodeID string }
	sent.into(r.t, &passcode)
	r.keep["passcodeId"] = passcode.PasscodeID
	r.send("sendPasscode", 404, member("externalCardId", "card-8"))
	r.send("sendPasscode", 422, member("statement", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"))
	r.send("verifyPasscode", 404, named("passcodeId", uuid.NewString()))
	r.send("verifyPasscode", 200)
	right := ""
	r.await(func() bool { right = r.passcodeOf(); return right != "" })
	r.send("verifyPasscode", 200, member("passcode", right))
	r.send("verifyPasscode", 409, member("passcode", right))

	r.send("decideProvisioning", 200)
	r.send("activateToken", 200) // decided for another device
	r.send("decideProvisioning", 404, member("externalCardId", "card-8"))
	device := []change{member("deviceId", "3f2a9c1e"), member("apple", map[string]any{"recommendation": "GREEN"}), func(s *sending) {
		s.body.(map[string]any)["evidence"] = []any{r.trusted("3f2a9c1e")}
	}}
	r.send("decideProvisioning", 200, device...)
	r.send("activateToken", 200)
	r.send("putWalletToken", 409) // INACTIVE after ACTIVE

	red := member("apple", map[string]any{"recommendation": "RED"})
	r.send("decideProvisioning", 200, red, member("deviceId", nil))
	r.send("signCard", 403)
	r.send("createActivationData", 403)
	r.spendPasscodes()
}

// spendPasscodes guesses until a passcode is spent, and has passcodes sent until the card has
// had them all.
func (r *rehearsal) spendPasscodes() {
	r.t.Helper()
	var passcode struct{ PasscodeID string }
	r.send("sendPasscode", 200).into(r.t, &passcode)
	r.keep["passcodeId"] = passcode.PasscodeID
	for range 3 {
		r.send("verifyPasscode", 200, member("passcode", "000000"))
	}
	r.send("verifyPasscode", 422)
	for range 20 {
		s := r.example("sendPasscode")
		if a, req := r.transmit(s); a.status == http.StatusTooManyRequests {
			r.judge(s.op, req, a)
			r.send("sendPasscode", 200, member("externalCardId", "demo-mastercard-2")).into(r.t, &passcode)
			r.keep["passcodeId"] = passcode.PasscodeID
			return
		}
	}
	r.t.Error("a card has passcodes without end")
}

// passcodeOf is the passcode that the simulated network was told of last.
func (r *rehearsal) passcodeOf() string {
	all := r.told("one-time-passcode")
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]["passcode"]
}

func (r *rehearsal) merchants() {
	r.t.Helper()
	r.send("signMerchantToken", 200)
	r.send("signMerchantToken", 400, member("mcc", "no mcc"))
	r.send("signMerchantToken", 403, as(r.people["narrow"].token(nil)))
	for _, id := range []string{"checkMerchantToken", "checkMerchantTokenOfVersion"} {
		r.send(id, 200)
		r.send(id, 401, as("no token"))
	}
	r.send("checkMerchantTokenOfVersion", 404, named("sdkVersion", "-"))
	r.send("createAppleProximityToken", 200)
	r.send("createAppleProximityToken", 403, as(r.issuer().token(r.info.Clients.Merchant.Claims)))
	r.send("createAppleProximityToken", 500, as(r.merchant().token(claims{"x-tid": nil})))
}

func (r *rehearsal) published() {
	r.t.Helper()
	set := r.send("getJWKS", 200)
	r.send("getJWKS", 304, headed("If-None-Match", set.header.Get("ETag")))
	var jwks struct{ Keys []struct{ Kid, Alg string } }
	set.into(r.t, &jwks)
	for _, k := range jwks.Keys {
		if k.Alg == "RS256" {
			r.keep["kid"] = k.Kid
		}
	}
	r.send("getKeyCertificate", 200)
	r.send("getKeyCertificate", 404, named("kid", strings.Repeat("A", 43)))
	for _, id := range []string{"getCheckpoint", "getDescription", "getDescriptionAsJSON"} {
		r.send(id, 200)
	}
	r.send("getCheckpoint", 400, twice("log"))
}

// atTheDoor sends what no operation looks at before it turns the caller away: to every operation
// that asks for a bearer token.
func (r *rehearsal) atTheDoor() {
	r.t.Helper()
	spent := r.people["once"].token(nil)
	r.send("signMerchantToken", 200, as(spent))
	for _, id := range slices.Sorted(maps.Keys(r.ops)) {
		op := r.ops[id]
		if op.Security == nil || len(*op.Security) == 0 || (*op.Security)[0]["bearer"] == nil {
			continue
		}
		has := func(status string) bool { return op.Responses.Value(status) != nil }
		r.send(id, 401, nobody)
		throttled := as(r.people["throttled"].token(nil))
		if !r.came["throttled"] { // the one call that it has
			r.came["throttled"] = true
			r.transmit(r.changed("getEnablement", throttled))
		}
		r.send(id, 429, throttled)
		if has("403") && id != "createAppleProximityToken" {
			r.send(id, 403, as(r.merchant().token(nil)))
		}
		if has("409") {
			r.send(id, 409, as(spent))
		}
		if op.RequestBody == nil {
			continue
		}
		if id != "putPassAsset" { // which takes any bytes
			r.send(id, 400, rawBody([]byte("no JSON")))
			r.send(id, 415, typed("text/plain"))
		}
		r.send(id, 413, rawBody(append([]byte(`{"a":"`), make([]byte, 5<<20)...)))
	}
}

func (r *rehearsal) changed(id string, changes ...change) *sending {
	s := r.example(id)
	for _, c := range changes {
		c(s)
	}
	return s
}

// withoutDatabase takes the database's one place for a writer, and sends every example: what has
// to be on record waits for the place, and is answered 503.
func (r *rehearsal) withoutDatabase() {
	r.t.Helper()
	r.propose()
	// By now these would change nothing as they stand, or be refused before anything is written.
	otherIcon, err := passtest.PNG(58, 58)
	if err != nil {
		r.t.Fatal(err)
	}
	writing := map[string]change{
		"deleteCard":           named("externalCardId", "demo-mastercard-2"),
		"getCard":              named("externalCardId", "demo-mastercard-3"),
		"createActivationData": member("externalCardId", "demo-mastercard-2"),
		"putWalletToken":       member("tokenStatus", "SUSPENDED"),
		"putPassAsset":         rawBody(otherIcon),
		"putPassType":          member("template", map[string]any{"description": "Another"}),
		"deletePass":           named("serialNumber", "member-1"),
	}
	var all []*sending
	for _, id := range slices.Sorted(maps.Keys(r.ops)) {
		if r.ops[id].Responses.Value("503") != nil {
			s := r.example(id)
			if c := writing[id]; c != nil {
				c(s)
			}
			all = append(all, s)
		}
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(r.dir, "mintmark.db")+"?_txlock=immediate&_busy_timeout=60000")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	taken, err := db.Begin()
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = taken.Rollback() }()
	requests, answers := make([]*http.Request, len(all)), make([]answer, len(all))
	var sending errgroup.Group
	for i, s := range all {
		requests[i] = r.made(s)
		sending.Go(func() (err error) {
			answers[i], err = do(requests[i])
			return err
		})
	}
	if err := sending.Wait(); err != nil {
		r.t.Fatal(err)
	}
	for i, a := range answers {
		if a.status == http.StatusServiceUnavailable {
			r.judge(all[i].op, requests[i], a)
		}
	}
}
