package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/passkit/passtest"
	"github.com/mintmark/mintmark/signer"
)

// rotations is how often every key is rotated.
var rotations = 1

// rotated are the purposes whose keys are rotated under load. card-index is not among them:
// a new one means to index every card anew. The keys of audit-report sign for commands alone,
// api-tls has a test of its own.
var rotated = []hsm.Purpose{
	hsm.TAVSigning, hsm.CardVault, hsm.MerchantJWT, hsm.ProximityToken, hsm.Pass, hsm.VisaZone, hsm.NetworkOTP, hsm.CardTransport, hsm.AuditCheckpoint,
}

// making are those that only make, so that a retired one is used for nothing any more. The
// others still open what was made.
var making = []hsm.Purpose{hsm.TAVSigning, hsm.MerchantJWT, hsm.ProximityToken, hsm.Pass, hsm.VisaZone, hsm.NetworkOTP, hsm.AuditCheckpoint}

// Every key of a development server is rotated while everything is asked of it: no request
// fails, and nothing that is asked for afterwards is made by a retired key.
func TestEveryKeyIsRotatedUnderLoad(t *testing.T) {
	r := &rotation{server: start(t, t.TempDir(), nil, []string{"MINTMARK_AUDIT_EVERY=100ms"})}
	t.Setenv("SOFTHSM2_CONF", r.info.HSM.Softhsm2Conf)
	r.keys = map[hsm.Purpose]string{}
	for _, p := range rotated {
		r.keys[p] = "dev-" + string(p)
	}
	r.load()
	for i := range rotations {
		r.rotate(i + 1)
	}
	close(r.stop)
	r.working.Wait()
	failed := 0
	for _, e := range r.all {
		if e.err != nil || e.status != http.StatusOK && e.status != http.StatusCreated {
			failed++
			t.Errorf("%s answered %d (%v): %s", e.kind, e.status, e.err, e.body)
		}
	}
	t.Logf("%d requests during %d rotations of %d keys, %d failed", len(r.all), rotations, len(rotated), failed)
}

// rotation is a server whose keys are rotated under load.
type rotation struct {
	*server
	keys map[hsm.Purpose]string // the active ones

	stop    chan struct{}
	working sync.WaitGroup
	mu      sync.Mutex
	all     []asked // guarded by mu
	next    atomic.Int64
	cards   []string // encrypted to a key that will be retired
}

// asked is a request and its answer.
type asked struct {
	kind  string
	began time.Time
	answer
	err error
}

// load starts a caller of each kind.
func (r *rotation) load() {
	pass := r.passInfo().Passes
	bearer := r.info.Clients.Issuer.Token
	var cards []map[string]any
	for i := range rotations {
		id := fmt.Sprintf("early-%d", i)
		cards = append(cards, map[string]any{"header": r.cardHeader(id, id, nil), "plaintext": newCardData})
	}
	r.cards, r.stop = r.encryptCards(cards...), make(chan struct{})
	post := func(path, token string, body any) (answer, error) {
		return call{method: http.MethodPost, url: r.info.BaseURL + path, token: token, body: body}.by(client)
	}
	seal := func(card string) func() (answer, error) {
		return func() (answer, error) { return r.post(r.requestFor(card)) }
	}
	passURL := r.info.BaseURL + "/api/" + pass.Tenant
	for kind, ask := range map[string]func() (answer, error){
		"mastercard": seal("demo-mastercard-1"),
		"visa":       seal("demo-visa-1"),
		"amex":       seal("demo-amex-1"),
		"merchant token": func() (answer, error) {
			return post("/v1/merchant-tokens", bearer, request{"sub": "shop", "usr": "cashier", "aud": "mintmark-dev", "mbn": "Shop", "mcc": "5411", "x-tid": "00000001"})
		},
		"proximity token": func() (answer, error) {
			return post("/apple/proximity-token", r.info.Clients.Merchant.Token, nil)
		},
		"pass": func() (answer, error) {
			doc := map[string]any{"pass": map[string]any{"storeCard": map[string]any{"primaryFields": []any{map[string]any{"key": "n", "value": r.next.Add(1)}}}}}
			path := "/passes/" + pass.PassTypeIdentifier + "/" + pass.SerialNumber
			if a, err := (call{method: http.MethodPut, url: passURL + path, token: bearer, body: doc}).by(client); err != nil || a.status != 200 {
				return a, err
			}
			req, err := http.NewRequest(http.MethodGet, passURL+"/passes/apple/v1"+path, nil)
			if err != nil {
				return answer{}, err
			}
			req.Header.Set("Authorization", "ApplePass "+pass.AuthenticationToken)
			return do(req)
		},
	} {
		r.working.Go(func() {
			for {
				select {
				case <-r.stop:
					return
				default:
				}
				r.ask(kind, ask)
			}
		})
	}
}

func (r *rotation) ask(kind string, do func() (answer, error)) {
	e := asked{kind: kind, began: time.Now()}
	e.answer, e.err = do()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

// putCard stores an encrypted card.
func (r *rotation) putCard(id, message string) {
	r.ask("card", func() (answer, error) {
		return call{method: http.MethodPut, url: r.info.BaseURL + "/v1/cards/" + id, token: r.info.Clients.Issuer.Token, body: request{"encryptedCard": message}}.by(client)
	})
}

// since waits until every kind has had answers to n requests that began after a time.
func (r *rotation) since(at time.Time, n int) []asked {
	r.t.Helper()
	var after []asked
	eventually(r.t, patience, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		after = nil
		counts := map[string]int{}
		for _, e := range r.all {
			if e.began.After(at) {
				after = append(after, e)
				counts[e.kind]++
			}
		}
		for _, kind := range []string{"mastercard", "visa", "amex", "merchant token", "proximity token", "pass"} {
			if counts[kind] < n {
				return fmt.Errorf("%d requests of %s have been answered", counts[kind], kind)
			}
		}
		return nil
	})
	return after
}

// rotate makes a next key of every purpose, has it published, takes it into use and retires
// the one before.
func (r *rotation) rotate(turn int) {
	path := filepath.Join(r.dir, "keyring.yaml")
	ring, err := hsm.LoadKeyring(path)
	if err != nil {
		r.t.Fatal(err)
	}
	kids, names := r.makeNext(ring, turn)
	r.save(ring, path)
	published := r.kids()
	for p, kid := range kids {
		if !published[kid] {
			r.t.Errorf("the next key for %s is not published", p)
		}
	}

	retired := map[hsm.Purpose]string{}
	for _, p := range rotated {
		if err := ring.SetState(names[p], hsm.Active, time.Now().UTC().Format(time.DateOnly)); err != nil {
			r.t.Fatal(err)
		}
		retired[p], r.keys[p] = r.keys[p], names[p]
	}
	r.rename(retired, names)
	r.save(ring, path)
	r.putCard(fmt.Sprintf("early-%d", turn-1), r.cards[turn-1])
	for _, p := range []hsm.Purpose{hsm.Pass, hsm.NetworkOTP} { // several were active; now they are not
		if err := ring.SetState(retired[p], hsm.Retired, time.Now().UTC().Format(time.DateOnly)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.save(ring, path)
	r.check(retired, kids, turn)
}

// check: what began after the rotation is made by the new keys, and the old ones are used no
// more, but to open what was made for them.
func (r *rotation) check(retired map[hsm.Purpose]string, kids map[hsm.Purpose]string, turn int) {
	r.t.Helper()
	at := time.Now()
	used := map[hsm.Purpose]int{}
	for _, p := range rotated {
		used[p] = r.uses(p, retired[p])
	}
	late := fmt.Sprintf("late-%d", turn)
	r.putCard(late, r.encryptCards(map[string]any{"header": r.cardHeader(late, late, nil), "plaintext": newCardData})[0])
	after := r.since(at, 3)
	for _, p := range making {
		if n := r.uses(p, retired[p]); n != used[p] {
			r.t.Errorf("%s, which is retired, was used %d times", retired[p], n-used[p])
		}
		if p != hsm.AuditCheckpoint && r.uses(p, r.keys[p]) == 0 {
			r.t.Errorf("%s, which is active, was not used", r.keys[p])
		}
	}
	for _, e := range after {
		switch {
		case e.kind == "merchant token" && headerOf(e.body)["kid"] != kids[hsm.MerchantJWT]:
			r.t.Errorf("a merchant token is signed by another key: %s", e.body)
		case e.kind == "visa" && !strings.Contains(memberOf(e.body, "activationData"), fmt.Sprintf("-FK-426064.%d-", turn+1)):
			r.t.Errorf("Visa's code is under another key: %s", memberOf(e.body, "activationData"))
		}
	}
	if n := r.count(`SELECT COUNT(*) FROM cards WHERE vault_key = ? AND created_at > ?`, retired[hsm.CardVault], at.UnixMilli()); n != 0 {
		r.t.Errorf("%d cards were sealed under the retired vault key", n)
	}
	if n := r.count(`SELECT COUNT(*) FROM cards WHERE vault_key = ?`, r.keys[hsm.CardVault]); n == 0 {
		r.t.Error("no card is sealed under the new vault key")
	}
	published := r.kids()
	for p, kid := range kids {
		if !published[kid] {
			r.t.Errorf("the active key for %s is not published", p)
		}
	}
}

// uses is how often a key was given work.
func (r *rotation) uses(p hsm.Purpose, name string) int {
	return r.counter(fmt.Sprintf(`mintmark_key_uses_total{key=%q,purpose=%q}`, name, p))
}

// kids are the keys that are published.
func (r *rotation) kids() map[string]bool {
	all := map[string]bool{}
	for _, k := range r.jwks().Keys {
		all[k.KeyID] = true
	}
	return all
}

// save writes the keyring and has the server take it up.
func (r *rotation) save(ring *hsm.Keyring, path string) {
	r.t.Helper()
	if err := ring.Save(path); err != nil {
		r.t.Fatal(err)
	}
	taken := r.logged("keyring taken up")
	r.hangup("configuration reloaded")
	// By the record, which has the digest: in the log one in 250 looks like a card number.
	if r.entries("lifecycle", `"keyringSha256":"`+ring.Digest()) == 0 || r.logged("keyring taken up") == taken {
		r.t.Fatalf("the keyring was not taken up:\n%s", r.complaints())
	}
}

// rename has the configuration name the new keys, where it names keys.
func (r *rotation) rename(old, names map[hsm.Purpose]string) {
	path := filepath.Join(r.dir, "mintmark.yaml")
	text := readFile(r.t, path)
	for _, p := range []hsm.Purpose{hsm.Pass, hsm.NetworkOTP} {
		for _, quote := range []string{"", `"`} {
			text = strings.ReplaceAll(text, "key: "+quote+old[p]+quote, "key: "+names[p])
		}
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// keyWithin bounds a call of a test's own to a token. An RSA key may take longer to make, on a
// busy machine, than a service waits for any answer.
const keyWithin = 2 * time.Minute

// makeNext makes the keys in the token, beside the server, and gives the kids of those that
// are published.
func (r *rotation) makeNext(ring *hsm.Keyring, turn int) (kids, names map[hsm.Purpose]string) {
	r.t.Helper()
	ctx := context.Background()
	at := r.info.HSM
	token, err := hsm.Open(ctx, hsm.Config{
		Name: "dev", Module: at.Module, TokenLabel: at.TokenLabel, PINFile: at.PinFile, Keyring: ring.Clone(), Log: slog.New(slog.DiscardHandler),
		CallTimeout: keyWithin,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := token.Close(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	kids, names = map[hsm.Purpose]string{}, map[hsm.Purpose]string{}
	for _, p := range rotated {
		n := hsm.NewKey{Name: fmt.Sprintf("%s-%d", p, turn), Purpose: p, State: hsm.Next}
		if p == hsm.Pass {
			n.Algorithm = hsm.P256
		}
		var k hsm.Key
		if p == hsm.VisaZone {
			value := make([]byte, 24)
			_, _ = rand.Read(value)
			k, err = token.ImportTDEA(ctx, n, value, time.Now())
			k.Alias = fmt.Sprintf("426064.%d", turn+1)
		} else {
			k, _, err = token.Generate(ctx, n, time.Now())
		}
		if err != nil {
			r.t.Fatal(err)
		}
		names[p] = k.Name
		ring.Keys = append(ring.Keys, k)
	}
	if err := token.Use(ctx, ring.Clone()); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken, hsm.CardTransport, hsm.Pass} {
		pub, err := token.Public(names[p])
		if err != nil {
			r.t.Fatal(err)
		}
		if p == hsm.Pass {
			authority, err := passtest.New(time.Now())
			if err != nil {
				r.t.Fatal(err)
			}
			info := r.passInfo().Passes
			leaf, err := authority.Leaf(pub, passtest.For(info.PassTypeIdentifier, info.TeamIdentifier))
			if err != nil {
				r.t.Fatal(err)
			}
			var chain bytes.Buffer
			for _, der := range [][]byte{leaf.Raw, authority.Intermediate.Raw} {
				_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
			}
			file := names[p] + ".crt"
			if err := os.WriteFile(filepath.Join(r.dir, file), chain.Bytes(), 0o600); err != nil {
				r.t.Fatal(err)
			}
			i := slices.IndexFunc(ring.Keys, func(k hsm.Key) bool { return k.Name == names[p] })
			ring.Keys[i].Certificate = file
			continue
		}
		if kids[p], err = signer.KeyID(pub); err != nil {
			r.t.Fatal(err)
		}
	}
	return kids, names
}

// headerOf is the header of the JWT in an answer's member token.
func headerOf(body []byte) map[string]any {
	var out struct{ Token string }
	_ = json.Unmarshal(body, &out)
	head, _, _ := strings.Cut(out.Token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(head)
	var header map[string]any
	_ = json.Unmarshal(b, &header)
	return header
}

// memberOf is a member of an answer that stands there in Base64.
func memberOf(body []byte, name string) string {
	var out map[string]any
	_ = json.Unmarshal(body, &out)
	text, _ := out[name].(string)
	b, _ := base64.StdEncoding.DecodeString(text)
	return string(b)
}
