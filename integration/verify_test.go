package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"
)

// How many tokens of each kind are made, by how many callers at once, and of how many of
// them openssl, a process each, sees the signature.
const (
	tokensOfAKind = 1000
	tokenCallers  = 8
	opensslSample = 20
)

// made is a token as it was asked for and answered.
type made struct {
	token string
	want  claims // what it must say, beside iat, exp and jti
	life  int    // seconds
}

// What the service signs, others verify: Node, openssl and go-jose, all tokens of both
// kinds, whatever their claims. Each token is on record by its digest.
func TestOthersVerifyOurTokens(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, nil)
	jwks := s.jwks()
	seed := rand.Uint64()
	t.Logf("claims are random, from %d", seed)
	for name, kind := range map[string]struct {
		mint    func(d dice) (made, error)
		header  *regexp.Regexp
		openssl func(t *testing.T, s *server, jwks jose.JSONWebKeySet, token string)
	}{
		"merchant JWT, RS256": {
			s.mintMerchantToken,
			regexp.MustCompile(`^\{"alg":"RS256","kid":"[A-Za-z0-9_-]{43}","typ":"JWT"\}$`),
			opensslRS256,
		},
		"proximity token, ES256": {
			s.mintProximityToken(),
			regexp.MustCompile(`^\{"alg":"ES256","kid":"[A-Za-z0-9_-]{43}"\}$`),
			opensslES256,
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := mint(t, seed, kind.mint)
			checkInNode(t, jwks, all, kind.header)
			checkWithGoJose(t, jwks, all)
			for _, m := range all[:opensslSample] {
				kind.openssl(t, s, jwks, m.token)
			}
			checkRecorded(t, s, all)
		})
	}
}

// jwks is the published set.
func (s *server) jwks() (set jose.JSONWebKeySet) {
	s.t.Helper()
	s.get(s.info.BaseURL+"/.well-known/jwks.json").into(s.t, &set)
	return set
}

// mint has the tokens made.
func mint(t *testing.T, seed uint64, one func(dice) (made, error)) []made {
	t.Helper()
	all := make([]made, tokensOfAKind)
	var callers errgroup.Group
	callers.SetLimit(tokenCallers)
	for i := range all {
		callers.Go(func() (err error) {
			all[i], err = one(dice{rand.New(rand.NewPCG(seed, uint64(i)))})
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// mintMerchantToken has a merchant JWT signed, with everything that it may say at random.
func (s *server) mintMerchantToken(d dice) (made, error) {
	m := made{want: claims{"iss": "dev-mint", "sub": d.text(), "usr": d.text(), "aud": d.text()}, life: 900}
	body := request{"sub": m.want["sub"], "usr": m.want["usr"], "aud": m.want["aud"]}
	if list := d.fingerprints(); len(list) > 0 {
		m.want["aud_fingerprints"] = strings.Join(list, ",")
		body["aud_fingerprints"] = any(list)
		if d.coin() {
			body["aud_fingerprints"] = m.want["aud_fingerprints"]
		}
	}
	for _, member := range []string{"spCfg", "mbn", "x-tid", "tpid"} {
		if d.coin() {
			m.want[member] = d.text()
			body[member] = m.want[member]
		}
	}
	if d.coin() {
		m.want["mcc"] = d.digits()
		body["mcc"] = m.want["mcc"]
	}
	if d.coin() {
		m.life = 1 + d.IntN(900)
		body["lifetimeSeconds"] = m.life
	}
	further := claims{"x-null": nil} // left out
	for range d.IntN(4) {
		name := "x-" + d.text()
		further[name] = d.value(3)
		m.want[name] = further[name]
	}
	body["claims"] = further
	a, err := call{method: http.MethodPost, url: s.info.BaseURL + "/v1/merchant-tokens", token: s.info.Clients.Issuer.Token, body: body}.patiently(client)
	if err == nil {
		err = a.want(http.StatusOK)
	}
	if err != nil {
		return m, fmt.Errorf("%w (asked for %v)", err, body)
	}
	var out struct{ Token, ExpiresAt, Kid string }
	err = json.Unmarshal(a.body, &out)
	m.token = out.Token
	return m, err
}

// mintProximityToken has a proximity token made for a merchant JWT of the merchant's own,
// with everything that it may say at random.
func (s *server) mintProximityToken() func(d dice) (made, error) {
	merchant := s.merchant()
	return func(d dice) (made, error) {
		mbn, mcc := d.text(), d.digits()
		m := made{want: claims{"iss": "dev-mint", "mbn": mbn, "mcc": mcc, "terminalProfileId": "00000001"}, life: 48 * 3600}
		bearer := merchant.token(claims{"sub": d.text(), "usr": d.text(), "mbn": mbn, "mcc": mcc, "x-" + d.text(): d.value(3)})
		a, err := call{method: http.MethodPost, url: s.info.BaseURL + "/apple/proximity-token", token: bearer}.patiently(client)
		if err == nil {
			err = a.want(http.StatusOK)
		}
		if err != nil {
			return m, err
		}
		var out struct{ Token string }
		err = json.Unmarshal(a.body, &out)
		m.token = out.Token
		return m, err
	}
}

// checkInNode verifies all tokens in one process, which also must not take one that was
// altered, and compares what they say.
func checkInNode(t *testing.T, jwks jose.JSONWebKeySet, all []made, header *regexp.Regexp) {
	t.Helper()
	var in struct {
		JWKS   jose.JSONWebKeySet `json:"jwks"`
		Tokens []string           `json:"tokens"`
	}
	in.JWKS = jwks
	for _, m := range all {
		in.Tokens = append(in.Tokens, m.token)
	}
	in.Tokens = append(in.Tokens, altered(all[0].token))
	var out []struct {
		OK              bool
		Header, Payload string
	}
	node(t, "jws.js", in, &out)
	if len(out) != len(in.Tokens) || out[len(all)].OK {
		t.Fatalf("node gives %d results for %d tokens, or takes an altered one", len(out), len(in.Tokens))
	}
	ids := map[any]bool{}
	for i, m := range all {
		if !out[i].OK || !header.MatchString(out[i].Header) {
			t.Fatalf("token %d does not verify in node, or has the header %s", i, out[i].Header)
		}
		said := decoded(t, []byte(out[i].Payload))
		if jti, ok := said["jti"]; ok {
			if ids[jti] {
				t.Errorf("jti %v is given twice", jti)
			}
			ids[jti] = true
		}
		if err := m.check(t, said); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
	}
}

// check compares what a token says with what it was to say.
func (m made) check(t *testing.T, said claims) error {
	t.Helper()
	var times [2]int64
	for i, name := range []string{"iat", "exp"} {
		n, ok := said[name].(json.Number)
		if !ok || strings.Contains(n.String(), ".") {
			return fmt.Errorf("%s is %v", name, said[name])
		}
		times[i], _ = n.Int64()
	}
	if age := time.Now().Unix() - times[0]; age < 0 || age > 600 || times[1]-times[0] != int64(m.life) {
		return fmt.Errorf("iat is %d s ago, and exp %d s later instead of %d", age, times[1]-times[0], m.life)
	}
	for _, name := range []string{"iat", "exp", "jti"} {
		delete(said, name)
	}
	b, err := json.Marshal(m.want)
	if err != nil {
		return err
	}
	if want := decoded(t, b); !reflect.DeepEqual(said, want) {
		return fmt.Errorf("it says\n%v\nand should say\n%v", said, want)
	}
	return nil
}

func decoded(t *testing.T, b []byte) (all claims) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return all
}

// altered is a token with one bit of its signature changed.
func altered(token string) string {
	end := strings.LastIndexByte(token, '.')
	sig, _ := base64.RawURLEncoding.DecodeString(token[end+1:])
	sig[len(sig)/2] ^= 1
	return token[:end+1] + base64.RawURLEncoding.EncodeToString(sig)
}

func checkWithGoJose(t *testing.T, jwks jose.JSONWebKeySet, all []made) {
	t.Helper()
	for i, m := range all {
		parsed, err := jose.ParseSignedCompact(m.token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		keys := jwks.Key(parsed.Signatures[0].Protected.KeyID)
		if len(keys) != 1 {
			t.Fatalf("token %d has a kid of %d keys", i, len(keys))
		}
		if _, err := parsed.Verify(keys[0]); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
	}
}

// opensslRS256 verifies with the certificate that partners get.
func opensslRS256(t *testing.T, s *server, _ jose.JSONWebKeySet, token string) {
	t.Helper()
	input, sig, kid := cut(t, token)
	a := s.get(s.info.BaseURL + "/v1/keys/" + kid + "/certificate.pem")
	if a.status != http.StatusOK {
		t.Fatalf("certificate: %d: %s", a.status, a.body)
	}
	cmd := exec.Command("openssl", "x509", "-pubkey", "-noout")
	cmd.Stdin = bytes.NewReader(a.body)
	key, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	opensslVerify(t, key, input, sig)
}

// opensslES256 verifies with the key of the JWK set; openssl takes an ECDSA signature in
// DER.
func opensslES256(t *testing.T, _ *server, jwks jose.JSONWebKeySet, token string) {
	t.Helper()
	input, sig, kid := cut(t, token)
	if len(sig) != 64 {
		t.Fatalf("the signature has %d bytes", len(sig))
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
	if err != nil {
		t.Fatal(err)
	}
	opensslVerify(t, []byte(publicPEM(t, jwks.Key(kid)[0].Key)), input, der)
}

func opensslVerify(t *testing.T, key, input, sig []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"key": key, "input": input, "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "dgst", "-sha256", "-verify", "key", "-signature", "sig", "input")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "Verified OK\n" {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

// cut gives a token's signing input, its signature and the kid of its header.
func cut(t *testing.T, token string) (input, sig []byte, kid string) {
	t.Helper()
	end := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token[:end]), sig, decoded(t, raw)["kid"].(string)
}

// checkRecorded looks the tokens up in the log.
func checkRecorded(t *testing.T, s *server, all []made) {
	t.Helper()
	db := s.database("ro")
	defer func() { _ = db.Close() }()
	var log string
	if err := db.QueryRow(`SELECT group_concat(body, char(10)) FROM audit_entries WHERE kind = 'operation'`).Scan(&log); err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	for _, digest := range regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(log, -1) {
		digests[digest] = true
	}
	for i, m := range all {
		if !digests[fmt.Sprintf("%x", sha256.Sum256([]byte(m.token)))] {
			t.Errorf("token %d is not on record", i)
		}
	}
	if strings.Contains(log, "eyJ") {
		t.Error("a token stands in the record")
	}
}

// dice makes random claims.
type dice struct{ *rand.Rand }

func (d dice) coin() bool { return d.IntN(2) == 0 }

// letters are printing characters of all lengths in UTF-8, and those that JSON and HTML
// have a meaning for.
var letters = []rune(`abcXYZ 0189-._:@/+=,;'"\<>&%{}[]()` + "äßéŁ€中文字é한🛒💳")

// text is of 1 to 40 characters.
func (d dice) text() string {
	all := make([]rune, 1+d.IntN(40))
	for i := range all {
		all[i] = letters[d.IntN(len(letters))]
	}
	return string(all)
}

// digits are four.
func (d dice) digits() string { return fmt.Sprintf("%04d", d.IntN(10000)) }

// fingerprints are none to four.
func (d dice) fingerprints() []string {
	list := make([]string, d.IntN(5))
	for i := range list {
		b := make([]byte, 32)
		for j := range b {
			b[j] = byte(d.Uint32())
		}
		list[i] = "sha256/" + base64.StdEncoding.EncodeToString(b)
	}
	return list
}

// value is any JSON value but null, nested no deeper than this.
func (d dice) value(depth int) any {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch d.IntN(kinds) {
	case 0:
		return d.text()
	case 1:
		return d.Int64N(1<<53) - 1<<52
	case 2:
		return d.coin()
	case 3:
		return float64(d.IntN(1000)) / 8
	case 4:
		list := make([]any, d.IntN(4))
		for i := range list {
			list[i] = d.value(depth - 1)
		}
		return list
	default:
		object := claims{}
		for range d.IntN(4) {
			object[d.text()] = d.value(depth - 1)
		}
		return object
	}
}
