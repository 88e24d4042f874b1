package access

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
)

// The vectors sign texts, not claims, so they go through what Authenticate does with a
// token before it looks at claims: split, the choice of the key from the JWK, verify.

type wycheproofFile struct {
	Groups []struct {
		Comment   string
		Public    json.RawMessage // JWK or JWK Set
		Key       json.RawMessage `json:"publicKeyJwk"`
		SignedKey json.RawMessage `json:"keyJwk"`
		DER       string          `json:"publicKeyDer"`
		Tests     []struct {
			ID                int `json:"tcId"`
			Comment, Result   string
			JWS, Message, Sig string
			Msg               string
		}
	} `json:"testGroups"`
}

func readVectors(t *testing.T, name string) (f wycheproofFile) {
	t.Helper()
	b, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// keysOf reads a JWK or a JWK Set as if it were published, and gives what verifies
// with it.
func keysOf(t *testing.T, key json.RawMessage) fixedKeys {
	t.Helper()
	if len(key) == 0 {
		return nil
	}
	if !bytes.Contains(key, []byte(`"keys"`)) {
		key = slices.Concat([]byte(`{"keys":[`), key, []byte(`]}`))
	}
	keys, _, err := readKeySet(key)
	if err != nil {
		t.Fatalf("%v: %s", err, key)
	}
	return keys
}

// TestWycheproofSignatures holds that no vector is accepted that is not valid, and
// none refused that is valid and within what we allow: RS256 and ES256.
//
// Of the rest there is no key to verify with: the groups for HS256 have a secret and
// no public key, and those for RS384, RS512, PS256, PS384, PS512 and P-521 have keys
// that are for these algorithms by their JWK, or that are for encryption.
func TestWycheproofSignatures(t *testing.T) {
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json"} {
		t.Run(name, func(t *testing.T) {
			accepted, refused, groups := 0, 0, map[string]int{}
			for _, g := range readVectors(t, name).Groups {
				keys := keysOf(t, g.Public)
				if len(keys) == 0 {
					groups[g.Comment+" "+algOf(g.Public)] += len(g.Tests)
				}
				for _, v := range g.Tests {
					err := refuse(ReasonUnknownKey)
					for _, k := range keys {
						err = verifyVector(k, v.JWS)
					}
					switch valid := v.Result == "valid"; {
					case err == nil && !valid:
						t.Errorf("%d %s: accepted", v.ID, v.Comment)
					case err != nil && valid && len(keys) > 0:
						t.Errorf("%d %s: %v", v.ID, v.Comment, err)
					case err == nil:
						accepted++
					case len(keys) > 0:
						refused++
					}
				}
			}
			for _, g := range slices.Sorted(maps.Keys(groups)) {
				t.Logf("no key of ours: %s, %d vectors, none accepted", g, groups[g])
			}
			t.Logf("%d valid vectors accepted, %d invalid ones refused", accepted, refused)
			if accepted == 0 || name == "json_web_signature_test.json" && (accepted < 10 || refused < 250) {
				t.Errorf("only %d accepted and %d refused", accepted, refused)
			}
		})
	}
}

// algOf is what a JWK, or the first of a set, says it is for.
func algOf(key json.RawMessage) string {
	type jwk struct{ Alg, Use, Kty string }
	var j struct {
		jwk
		Keys []jwk
	}
	_ = json.Unmarshal(key, &j)
	if len(j.Keys) > 0 {
		j.jwk = j.Keys[0]
	}
	if j.Kty == "" {
		return "(secret key only)"
	}
	return "(" + j.Kty + " " + j.Alg + " " + j.Use + ")"
}

func verifyVector(k Key, token string) error {
	own, err := newVerificationKey(k)
	if err != nil {
		return err
	}
	j, err := split(token)
	if err != nil {
		return err
	}
	return j.verify(own, nil)
}

// TestWycheproofPrimitives gives the signature step every vector there is for its two
// algorithms. Keys that are not within our bounds are not tried: those of exponent 3.
func TestWycheproofPrimitives(t *testing.T) {
	for name, alg := range map[string]Algorithm{
		"ecdsa_secp256r1_sha256_p1363_test.json": ES256,
		"rsa_signature_2048_sha256_test.json":    RS256,
		"rsa_signature_3072_sha256_test.json":    RS256,
		"rsa_signature_4096_sha256_test.json":    RS256,
		"rsa_signature_8192_sha256_test.json":    RS256,
	} {
		t.Run(name, func(t *testing.T) {
			count := map[string]int{}
			for _, g := range readVectors(t, name).Groups {
				keys := keysOf(t, slices.Concat(g.Key, g.SignedKey))
				if len(g.Key)+len(g.SignedKey) == 0 {
					keys = keysOfDER(t, g.DER)
				}
				if len(keys) == 0 {
					count["not tried"] += len(g.Tests)
				}
				for _, k := range keys {
					k.Algorithm = alg
					own, err := newVerificationKey(k)
					if err != nil {
						t.Fatal(err)
					}
					for _, v := range g.Tests {
						message, err1 := hex.DecodeString(v.Msg)
						sig, err2 := hex.DecodeString(v.Sig)
						if err1 != nil || err2 != nil {
							t.Fatal(err1, err2)
						}
						ok := own.method.Verify(string(message), sig, own.public) == nil
						if ok && v.Result == "invalid" || !ok && v.Result == "valid" {
							t.Errorf("%d %s: accepted is %v", v.ID, v.Comment, ok)
						}
						count[v.Result]++
					}
				}
			}
			t.Logf("%v", count)
			if count["valid"] == 0 || count["invalid"] == 0 {
				t.Error("nothing was tried")
			}
		})
	}
}

// keysOfDER is the key of a group that has no JWK.
func keysOfDER(t *testing.T, text string) fixedKeys {
	t.Helper()
	der, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return fixedKeys{"": {Public: public}}
}
