package integration

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

// Malformed input gets a 4xx problem that names what to do; nothing is written, nothing
// panics, the server stays up.
func TestMalformedInputChangesNothing(t *testing.T) {
	s := start(t, t.TempDir(), nil, nil)
	valid := s.newRequest()
	chain := valid["certificates"].([]string)
	cut := chain[0][:len(chain[0])-8]
	raw := func(body string) []byte { return []byte(body) }
	encoded, err := json.Marshal(valid)
	if err != nil {
		t.Fatal(err)
	}
	duplicate := strings.Replace(string(encoded), "{", `{"nonce":"c5846fb5",`, 1)

	for _, tt := range []struct {
		name    string
		body    any
		status  int
		problem string
	}{
		{"externalCardId missing", valid.with(request{"externalCardId": nil}), 400, "malformed-member"},
		{"externalCardId empty", valid.with(request{"externalCardId": ""}), 400, "malformed-member"},
		{"externalCardId of another type", valid.with(request{"externalCardId": 7}), 400, "malformed-body"},
		{"externalCardId too long", valid.with(request{"externalCardId": strings.Repeat("a", 129)}), 400, "malformed-member"},
		{"externalCardId with a quote", valid.with(request{"externalCardId": "a' OR 1=1 --"}), 400, "malformed-member"},
		{"both names of the card", valid.with(request{"cardId": "x"}), 400, "malformed-member"},
		{"certificates missing", valid.with(request{"certificates": nil}), 400, "malformed-member"},
		{"certificates of another type", valid.with(request{"certificates": "x"}), 400, "malformed-body"},
		{"certificate of another type", valid.with(request{"certificates": nil, "certificate": 1}), 400, "malformed-member"},
		{"both names of the chain", valid.with(request{"certificate": "x"}), 400, "malformed-member"},
		{"no certificate", valid.with(request{"certificates": []string{}}), 422, "certificate-chain"},
		{"one certificate", valid.with(request{"certificates": chain[:1]}), 422, "certificate-chain"},
		{"certificates swapped", valid.with(request{"certificates": []string{chain[1], chain[0]}}), 422, "certificate-chain"},
		{"certificate cut short", valid.with(request{"certificates": []string{cut, chain[1]}}), 422, "certificate-chain"},
		{"certificate not Base64", valid.with(request{"certificates": []string{"*", chain[1]}}), 422, "certificate-chain"},
		{"certificate encoded twice", valid.with(request{"certificates": []string{base64.StdEncoding.EncodeToString([]byte(chain[0])), chain[1]}}), 422, "certificate-chain"},
		{"empty EC point in the leaf", valid.with(request{"certificates": []string{s.leafWithoutPoint(), chain[1]}}), 422, "certificate-chain"},
		{"nonce missing", valid.with(request{"nonce": nil}), 400, "malformed-member"},
		{"nonce of another type", valid.with(request{"nonce": 12345678}), 400, "malformed-body"},
		{"nonce too short", valid.with(request{"nonce": "c5846f"}), 400, "malformed-member"},
		{"nonce too long", valid.with(request{"nonce": "c5846fb5b5"}), 400, "malformed-member"},
		{"nonce of odd length", valid.with(request{"nonce": "c5846fb"}), 400, "malformed-member"},
		{"nonceSignature missing", valid.with(request{"nonceSignature": nil}), 400, "malformed-member"},
		{"nonceSignature too short", valid.with(request{"nonceSignature": "40"}), 400, "malformed-member"},
		{"nonceSignature of another type", valid.with(request{"nonceSignature": []string{}}), 400, "malformed-body"},
		{"walletType of another type", valid.with(request{"walletType": true}), 400, "malformed-body"},
		{"walletType not supported", valid.with(request{"walletType": "GOOGLE_PAY"}), 422, "wallet-type"},
		{"unknown member", valid.with(request{"primaryAccountNumber": "x"}), 400, "malformed-body"},
		{"member in other letters", valid.with(request{"nonce": nil, "Nonce": "c5846fb5"}), 400, "malformed-body"},
		{"member twice", raw(duplicate), 400, "malformed-body"},
		{"trailing data", raw(string(encoded) + "{}"), 400, "malformed-body"},
		{"no body", raw(""), 400, "malformed-body"},
		{"null", raw("null"), 400, "malformed-body"},
		{"an array", raw("[]"), 400, "malformed-body"},
		{"not UTF-8", raw("{\"nonce\":\"\xff\xfe\"}"), 400, "malformed-body"},
		{"1 MB", raw(`{"nonce":"` + strings.Repeat("a", 1<<20) + `"}`), 413, "body-too-large"},
		{"100 000 levels", raw(strings.Repeat("[", 100_000)), 413, "body-too-large"},
		{"30 000 levels", raw(`{"nonce":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`), 400, "malformed-body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows := s.count(`SELECT (SELECT COUNT(*) FROM apple_nonces) + (SELECT COUNT(*) FROM audit_entries WHERE kind <> 'refusal')`)
			refusals := s.count(`SELECT COUNT(*) FROM audit_entries WHERE kind = 'refusal'`)
			a := s.mustPost(tt.body)
			if a.status != tt.status || a.problem() != tt.problem {
				t.Errorf("answered %d %s, want %d %s: %s", a.status, a.problem(), tt.status, tt.problem, a.body)
			}
			if n := s.count(`SELECT (SELECT COUNT(*) FROM apple_nonces) + (SELECT COUNT(*) FROM audit_entries WHERE kind <> 'refusal')`); n != rows {
				t.Errorf("%d rows were written", n-rows)
			}
			// A malformed request leaves no trace; one that was understood and refused is
			// on record as such, once.
			if n := s.count(`SELECT COUNT(*) FROM audit_entries WHERE kind = 'refusal'`) - refusals; n > 1 || (tt.status == 400 && n != 0) {
				t.Errorf("%d refusals were recorded", n)
			}
		})
	}
	if a := s.mustPost(valid); a.status != 200 {
		t.Errorf("after all that a valid request answers %d", a.status)
	}
	if n := metric(t, string(s.get(s.info.AdminURL+"/metrics").body), "mintmark_http_panics_total"); n != "0" {
		t.Errorf("%s handlers panicked", n)
	}
}

// leafWithoutPoint is Apple's leaf with an empty public key.
func (s *server) leafWithoutPoint() string {
	var cert struct {
		TBS struct {
			Version   int `asn1:"optional,explicit,default:0,tag:0"`
			Serial    *big.Int
			Algorithm pkix.AlgorithmIdentifier
			Issuer    asn1.RawValue
			Validity  asn1.RawValue
			Subject   asn1.RawValue
			PublicKey struct {
				Algorithm pkix.AlgorithmIdentifier
				PublicKey asn1.BitString
			}
			Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(s.pem(s.info.Apple.LeafCert), &cert); err != nil {
		s.t.Fatal(err)
	}
	cert.TBS.PublicKey.PublicKey = asn1.BitString{}
	der, err := asn1.Marshal(cert)
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}
