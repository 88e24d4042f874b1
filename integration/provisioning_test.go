package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/integration/faultmodule"
)

// networkView is what Apple and the network find in an answer.
type networkView struct {
	Payload    string
	PAN        string
	Activation struct {
		Kind, Text string
		OK         bool
	}
}

func (s *server) openAll(answers []map[string]string) []networkView {
	s.t.Helper()
	in := map[string]any{"answers": answers}
	for member, path := range map[string]string{
		"leafKey": s.info.Apple.LeafKey, "tavKey": filepath.Join(s.dir, "keys", "tav-signing.pem"),
		"otpKey": filepath.Join(s.dir, "keys", "network-otp.pem"), "zoneKey": filepath.Join(s.dir, "keys", "visa-zone.hex"),
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		in[member] = string(b)
	}
	var out []networkView
	node(s.t, "network.js", in, &out)
	return out
}

// call sends a request as the issuer client and decodes a JSON answer, if there is one.
func (s *server) call(method, path string, body, into any) answer {
	s.t.Helper()
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			s.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, s.info.BaseURL+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.info.Clients.Issuer.Token)
	a, err := do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if into != nil && a.status == http.StatusOK {
		if err := json.Unmarshal(a.body, into); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
		}
	}
	return a
}

// Every row of the guide's payloads, sealed by the running server, opened in Node, and
// compared member for member; and its activation data, verified or decrypted there.
func TestEveryRowOfTheGuideThroughTheServer(t *testing.T) {
	s := start(t, t.TempDir(), nil, nil)
	const auxiliary = `"auxiliaryCards":[{"expiration":"07\/44","name":"John Appleseed","primaryAccountNumber":"6759649826438453"}],`
	const block = `"encryptedPrimaryAccountNumber":"BLOCK",`
	clear := func(expiration string) string {
		return `"expiration":"` + expiration + `","name":"John Appleseed",`
	}
	rows := []struct {
		card, payload, pan, activation string
	}{
		{"demo-mastercard-1", `{` + clear(`12\/49`) + `NONCE"primaryAccountNumber":"5204245250001488","productType":"DEFAULT_MASTERCARD","version":"1"}`, "", "tav"},
		{"demo-maestro-1", `{"expiration":"01\/47","name":"Jane Appleseed",NONCE"primaryAccountNumber":"6759649826438453","productType":"DEFAULT_MASTERCARD","version":"1"}`, "", "tav"},
		{"demo-mastercard-3", `{` + block + `"name":"John Appleseed","networkName":"Mastercard",NONCE"primaryAccountNumberPrefix":"510510","productType":"DEFAULT_MASTERCARD","version":"1"}`, "5105105105105100;expiry=0246", "tav"},
		{"demo-maestro-3", `{` + block + `"name":"John Appleseed","networkName":"Mastercard",NONCE"primaryAccountNumberPrefix":"630400","productType":"DEFAULT_MASTERCARD","version":"1"}`, "6304000000000000;expiry=0246", "tav"},
		{"demo-visa-1", `{` + block + `"name":"John Appleseed","networkName":"Visa",NONCE"primaryAccountNumberPrefix":"426064","productType":"DEFAULT_VISA","version":"1"}`, "4260640000000000;expiry=0345", "visa"},
		{"demo-visa-electron-nn", `{` + block + `"name":"John Appleseed","networkName":"Visa",NONCE"productType":"01:NN:A0000000032010","version":"1"}`, "4824980000000009;expiry=0445", "visa"},
		{"demo-visa-electron-ny", `{` + block + `"name":"John Appleseed","networkName":"Visa",NONCE"productType":"01:NY:A0000000032010","version":"1"}`, "4824980000000009;expiry=0445", "visa"},
		{"demo-v-pay-yy", `{` + block + `"name":"John Appleseed","networkName":"Visa",NONCE"productType":"01:YY:A0000000032010","version":"1"}`, "4824980000000009;expiry=0445", "visa"},
		{"demo-amex-1", `{` + clear(`05\/44`) + `NONCE"primaryAccountNumber":"371449635398431","productType":"DEFAULT_AMEX","version":"1"}`, "", "jws"},
		{"demo-amex-2", `{"expiration":"05\/44","name":"John Appleseed","networkData":"demo",NONCE"primaryAccountNumber":"378282246310005","productType":"DEFAULT_AMEX","version":"1"}`, "", "jws"},
		{"demo-discover-1", `{` + clear(`06\/44`) + `NONCE"primaryAccountNumber":"6011111111111117","productType":"DISCOVER","version":"1"}`, "", "jws"},
		{"demo-discover-2", `{` + clear(`06\/44`) + `NONCE"primaryAccountNumber":"6011000990139424","productType":"DISCOVER","version":"1"}`, "", "jws"},
		{"demo-co-badged-mastercard", `{` + auxiliary + clear(`07\/44`) + `NONCE"primaryAccountNumber":"5204245250001488","productType":"GIVEN_BY_APPLE","version":"1"}`, "", "tav"},
		{"demo-co-badged-visa", `{` + auxiliary + block + `"name":"John Appleseed",NONCE"productType":"GIVEN_BY_APPLE","version":"1"}`, "4260640000000000;expiry=0744", "visa"},
	}
	var answers []map[string]string
	var requests []request
	for _, row := range rows {
		req := s.newRequest().with(request{"externalCardId": row.card})
		var out map[string]string
		if a := s.call(http.MethodPost, "/issuer/push-provisioning/signed-cards", req, &out); a.status != http.StatusOK {
			t.Fatalf("%s: answered %d: %s", row.card, a.status, a.body)
		}
		answers, requests = append(answers, out), append(requests, req)
		// In-App Verification has the same data alone.
		alone := map[string]string{"ephemeralPublicKey": out["ephemeralPublicKey"], "encryptedData": out["encryptedData"]}
		if a := s.call(http.MethodPost, "/issuer/push-provisioning/activation-data", request{"externalCardId": row.card}, &alone); a.status != http.StatusOK {
			t.Fatalf("%s: activation data answered %d: %s", row.card, a.status, a.body)
		}
		answers, requests = append(answers, alone), append(requests, req)
	}
	encrypted := regexp.MustCompile(`"encryptedPrimaryAccountNumber":"[A-Za-z0-9+/=]+"`)
	for i, got := range s.openAll(answers) {
		row, req := rows[i/2], requests[i]
		want := strings.Replace(row.payload, "NONCE", fmt.Sprintf(`"nonce":%q,"nonceSignature":%q,`, req["nonce"], req["nonceSignature"]), 1)
		payload := encrypted.ReplaceAllString(got.Payload, `"encryptedPrimaryAccountNumber":"BLOCK"`)
		if diff := cmp.Diff(want, payload); diff != "" {
			t.Errorf("%s: %s", row.card, diff)
		}
		if row.pan != "" && !regexp.MustCompile(`^pan=`+row.pan+`;datetime=\d{14}$`).MatchString(got.PAN) {
			t.Errorf("%s: the encrypted PAN holds %q", row.card, got.PAN)
		}
		if got.Activation.Kind != row.activation || !got.Activation.OK {
			t.Errorf("%s: activation data are %+v", row.card, got.Activation)
		}
		if i%2 == 0 && row.activation != "tav" && !strings.Contains(got.Activation.Text, req["nonce"].(string)) {
			t.Errorf("%s: activation data are not for the nonce: %+v", row.card, got.Activation)
		}
	}
}

// encryptCards encrypts card data in Node to the server's published key.
func (s *server) encryptCards(cards ...map[string]any) []string {
	s.t.Helper()
	var jwks any
	if err := json.Unmarshal(s.get(s.info.BaseURL+"/.well-known/jwks.json").body, &jwks); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	node(s.t, "encryptcard.js", map[string]any{"jwks": jwks, "cards": cards}, &out)
	return out
}

const newCardData = `{"primaryAccountNumber":"5105105105105100","expiration":"11/39","name":"Jean Pommier","product":"mastercard"}`

// cardHeader is the header that a client writes, but for what the encryption adds.
func (s *server) cardHeader(id, jti string, more map[string]any) map[string]any {
	h := map[string]any{
		"typ": "mintmark-card+jwe", "tenant": "dev", "iss": s.info.Clients.Issuer.Iss, "sub": s.info.Clients.Issuer.Sub,
		"externalCardId": id, "exp": time.Now().Add(12 * time.Hour).Unix(), "jti": jti,
	}
	for k, v := range more {
		h[k] = v
	}
	return h
}

// A card encrypted in Node is stored, shown masked, sealed, refused when it is sent again,
// and removed; one sent inline is sealed once.
func TestCardsComeInEncrypted(t *testing.T) {
	s := start(t, t.TempDir(), nil, nil)
	inlineRequest := s.newRequest().with(request{"externalCardId": nil})
	nonce, err := hex.DecodeString(inlineRequest["nonce"].(string))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nonce)
	messages := s.encryptCards(
		map[string]any{"header": s.cardHeader("card-7", "jti-1", nil), "plaintext": newCardData},
		map[string]any{"header": s.cardHeader("card-8", "jti-2", map[string]any{"nonceSha256": base64.RawURLEncoding.EncodeToString(sum[:])}), "plaintext": newCardData},
	)
	put := func(id, message string) answer {
		return s.call(http.MethodPut, "/v1/cards/"+id, request{"encryptedCard": message}, nil)
	}
	if a := put("card-9", messages[0]); a.status != 422 || a.problem() != "encrypted-card" {
		t.Errorf("for another card it answers %d %s", a.status, a.problem())
	}
	if a := put("card-7", messages[0]); a.status != 200 || bytes.Contains(a.body, []byte("11/39")) {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	if a := put("card-7", messages[0]); a.status != 409 || a.problem() != "encrypted-card-used" {
		t.Errorf("again it answers %d %s", a.status, a.problem())
	}
	var shown map[string]string
	if a := s.call(http.MethodGet, "/v1/cards/card-7", nil, &shown); a.status != 200 || shown["last4"] != "5100" || shown["product"] != "mastercard" || len(shown) != 4 {
		t.Errorf("shown as %d %s", a.status, a.body)
	}
	var stored, inline map[string]string
	if a := s.call(http.MethodPost, "/issuer/push-provisioning/signed-cards", s.newRequest().with(request{"externalCardId": "card-7"}), &stored); a.status != 200 {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	inlineRequest["encryptedCard"] = messages[1]
	if a := s.call(http.MethodPost, "/issuer/push-provisioning/signed-cards", inlineRequest, &inline); a.status != 200 {
		t.Fatalf("inline answered %d: %s", a.status, a.body)
	}
	for _, got := range s.openAll([]map[string]string{stored, inline}) {
		if !strings.Contains(got.Payload, `"primaryAccountNumber":"5105105105105100"`) || !got.Activation.OK {
			t.Errorf("sealed %+v", got)
		}
	}
	if a := s.call(http.MethodPost, "/issuer/push-provisioning/signed-cards", s.newRequest().with(request{"externalCardId": nil, "encryptedCard": messages[1]}), nil); a.status != 422 {
		t.Errorf("under another nonce the inline card answers %d", a.status)
	}
	if a := s.call(http.MethodGet, "/v1/cards/card-8", nil, nil); a.status != 404 {
		t.Errorf("the inline card was kept: %d", a.status)
	}
	if a := s.call(http.MethodDelete, "/v1/cards/card-7", nil, nil); a.status != 204 || len(a.body) != 0 {
		t.Errorf("removed with %d %s", a.status, a.body)
	}
	if a := s.call(http.MethodGet, "/v1/cards/card-7", nil, nil); a.status != 404 {
		t.Errorf("removed, it answers %d", a.status)
	}
	if a := s.call(http.MethodPost, "/issuer/push-provisioning/activation-data", request{"externalCardId": "demo-visa-1", "walletType": "SAMSUNG_PAY"}, nil); a.status != 422 || a.problem() != "wallet-type" {
		t.Errorf("another wallet answers %d", a.status)
	}
	s.stop()
	files := map[string][]byte{"log": []byte(s.stderr.String())}
	readAll(t, s.dir, files)
	for where, content := range files {
		for _, canary := range []string{"5105105105105100", "Jean Pommier"} {
			if form := leaks(content, canary); form != "" {
				t.Errorf("%s stands in %s, %s", canary, where, form)
			}
		}
	}
}

// cards runs mintmark cards against the server.
func (s *server) cards(args ...string) (string, error) {
	cmd := exec.Command(mintmark, append([]string{"cards", args[0], "--admin", s.info.AdminURL}, args[1:]...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// importFile writes cards, encrypted in Node, as JSON Lines.
func (s *server) importFile(n int) string {
	s.t.Helper()
	var cards []map[string]any
	for i := range n {
		id := fmt.Sprintf("import-%d", i)
		cards = append(cards, map[string]any{"header": s.cardHeader(id, id, nil), "plaintext": newCardData})
	}
	path := filepath.Join(s.t.TempDir(), "cards.jsonl")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	enc := json.NewEncoder(f)
	for _, m := range s.encryptCards(cards...) {
		if err := enc.Encode(map[string]string{"encryptedCard": m}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// An import that is cut off by kill -9 of the server finishes when it is run again, with no
// card lost and none stored twice.
func TestImportSurvivesKill9(t *testing.T) {
	const cards = 800
	dir := t.TempDir()
	fault := faultmodule.New(t, module(t))
	s := start(t, dir, []string{"--module", fault.Path}, nil)
	file := s.importFile(cards)
	// Each card is decrypted by one such call: with half of them it stops until the kill.
	fault.Inject(faultmodule.Rule{Function: "C_DeriveKey", After: cards / 2, Hang: true, Times: faultmodule.Forever})
	before := s.count(`SELECT COUNT(*) FROM cards`)
	cut := make(chan error, 1)
	importing := exec.Command(mintmark, "cards", "import", "--admin", s.info.AdminURL, "--tenant", "dev", file)
	if err := importing.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cut <- importing.Wait() }()
	eventually(t, patience, func() error {
		n, err := s.counted(`SELECT COUNT(*) FROM cards`)
		if err == nil && n-before < cards/5 {
			err = fmt.Errorf("%d cards are stored", n-before)
		}
		return err
	})
	s.kill()
	_ = importing.Process.Kill()
	if err := <-cut; err == nil {
		t.Fatal("the import was not cut off")
	}
	fault.Clear()

	s = start(t, dir, nil, nil)
	half := s.count(`SELECT COUNT(*) FROM cards`) - before
	if half < cards/5 || half >= cards {
		t.Fatalf("%d cards are stored", half)
	}
	out, err := s.cards("import", "--tenant", "dev", file)
	if err != nil || !strings.Contains(out, fmt.Sprintf("%d lines", cards)) || !strings.Contains(out, fmt.Sprintf("%d stored, %d used before, 0 refused", cards-half, half)) {
		t.Errorf("run again: %v\n%s", err, out)
	}
	if n := s.count(`SELECT COUNT(*) FROM cards`) - before; n != cards {
		t.Errorf("%d cards are stored, want %d", n, cards)
	}
	if n := s.count(`SELECT COUNT(*) FROM used_messages WHERE state = 'used'`); n != cards {
		t.Errorf("%d messages are used, want %d", n, cards)
	}
	if a := s.call(http.MethodGet, fmt.Sprintf("/v1/cards/import-%d", cards-1), nil, nil); a.status != 200 {
		t.Errorf("the last card answers %d", a.status)
	}
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(bad, []byte("{\"encryptedCard\":\"a.b.c.d.e\"}\nnot JSON 5105105105105100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.cards("import", "--tenant", "dev", bad); err == nil || !strings.Contains(out, "line 1: refused: encrypted-card") || !strings.Contains(out, "line 2: refused") || strings.Contains(out, "5105105105105100") {
		t.Errorf("bad lines: %v\n%s", err, out)
	}
}

// newVaultKey makes a vault key and gives it the old one's place, as an operator would
// between two starts.
func newVaultKey(t *testing.T, dir string) {
	t.Helper()
	config := filepath.Join(dir, "mintmark.yaml")
	if out, err := exec.Command(mintmark, "keys", "generate", "--config", config, "--name", "vault-2", "--purpose", "card-vault", "--state", "next", "--write").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, "keyring.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := strings.SplitAfter(string(b), "- name: ")
	for i, e := range entries {
		switch {
		case strings.HasPrefix(e, "dev-card-vault\n"):
			entries[i] = strings.Replace(e, "state: active", "state: retired", 1)
		case strings.HasPrefix(e, "vault-2\n"):
			entries[i] = strings.Replace(e, "state: next", "state: active", 1)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(entries, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The vault moves to a new key while cards are sealed, stored and shown, and no request
// fails for it.
func TestRekeyUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil, nil)
	if out, err := s.cards("import", "--tenant", "dev", s.importFile(300)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.stop()
	newVaultKey(t, dir)
	s = start(t, dir, nil, nil)
	total := s.count(`SELECT COUNT(*) FROM cards WHERE vault_key = 'dev-card-vault'`)
	if total < 300 {
		t.Fatalf("%d cards are under the old key", total)
	}
	moved := make(chan struct{})
	var load, begun sync.WaitGroup
	for range 4 {
		begun.Add(1)
		first := sync.OnceFunc(begun.Done)
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-moved:
					return
				default:
				}
				id := fmt.Sprintf("import-%d", i%300)
				if a, err := s.post(s.newRequest().with(request{"externalCardId": id})); err != nil || a.status != 200 {
					t.Errorf("%s: answered %d, %v: %s", id, a.status, err, a.body)
				}
				first()
			}
		})
	}
	begun.Wait()
	out, err := s.cards("rekey")
	close(moved)
	load.Wait()
	if err != nil || !strings.Contains(out, fmt.Sprintf("%d cards moved", total)) {
		t.Errorf("rekey of %d: %v\n%s", total, err, out)
	}
	if n := s.count(`SELECT COUNT(*) FROM cards WHERE vault_key <> 'vault-2'`); n != 0 {
		t.Errorf("%d cards are under another key", n)
	}
	if a := s.mustPost(s.newRequest()); a.status != 200 {
		t.Errorf("afterwards: %d", a.status)
	}
}
