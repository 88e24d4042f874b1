package httpapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/keys"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/passkit"
)

func TestContractIsAValidDocument(t *testing.T) {
	doc := contract(t)
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.0.3" {
		t.Errorf("openapi is %s; code generation and validation are made for 3.0.3", doc.OpenAPI)
	}
}

func TestEveryExampleIsWhatItsSchemaSays(t *testing.T) {
	seen := 0
	check := func(at string, content openapi3.Content) {
		for mediaType, m := range content {
			examples := map[string]any{}
			if m.Example != nil {
				examples["example"] = m.Example
			}
			for name, e := range m.Examples {
				examples[name] = e.Value.Value
			}
			for name, value := range examples {
				seen++
				if err := m.Schema.Value.VisitJSON(value, openapi3.EnableFormatValidation()); err != nil {
					t.Errorf("%s, %s, %s: %v", at, mediaType, name, err)
				}
			}
		}
	}
	for path, item := range contract(t).Paths.Map() {
		for method, op := range item.Operations() {
			at := method + " " + path
			if op.RequestBody != nil {
				check(at+" request", op.RequestBody.Value.Content)
			}
			for status, r := range op.Responses.Map() {
				check(at+" "+status, r.Value.Content)
			}
		}
	}
	if seen < 3 {
		t.Errorf("%d examples seen; request, answer and a problem have one", seen)
	}
}

// The example request, sent as it stands, differs from a good one only in its
// certificates, which are cut short for the reader.
func TestExampleRequestIsUnderstood(t *testing.T) {
	a := newAPI(t, provisioner(seals))
	example := exampleOf(t, signedCards)
	a.do(a.post(text(example))).expect(t, 422, "certificate-chain")
	example = maps.Clone(example)
	example["certificates"] = goodBody()["certificates"]
	if got := a.do(a.post(text(example))); got.status != 200 {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestExampleOfAMerchantTokenIsSigned(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t), asks(merchants{sign: func(_ merchant.Caller, req merchant.TokenRequest) (merchant.Token, error) {
		if req.Subject != "merchant-user-17" || *req.LifetimeSeconds != 900 || len(req.Fingerprints) != 1 || string(req.Claims["refresh_token"]) != "false" {
			t.Errorf("the domain got %+v", req)
		}
		return merchant.Token{}, nil
	}}))
	if got := a.do(a.postTo(merchantTokens, text(exampleOf(t, merchantTokens)), token(t, backend, nil))); got.status != 200 {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func exampleOf(t testing.TB, path string) map[string]any {
	t.Helper()
	return contract(t).Paths.Find(path).Post.RequestBody.Value.Content.Get("application/json").Example.(map[string]any)
}

// A caller that reads openapi.yaml finds every failure there, with the status and the form
// that it has.
func TestEveryOperationDescribesItsFailures(t *testing.T) {
	for path, item := range contract(t).Paths.Map() {
		for method, op := range item.Operations() {
			public := slices.ContainsFunc(op.Tags, func(tag string) bool { return tag == "keys" || tag == "audit" || tag == "description" })
			if slices.Contains(op.Tags, "pass-devices") || slices.Contains(op.Tags, "admin") {
				continue // theirs is Apple's table: see TestDeviceCallsDescribeApplesTable; operators' tools get texts
			}
			if asks := op.Security != nil && len(*op.Security) > 0; asks == public {
				t.Errorf("%s %s asks for authentication: %v", method, path, asks)
			}
			need, form := []string{"500", "503"}, "application/problem+json"
			if slices.Contains(op.Tags, "description") { // which needs nothing but this process
				need = []string{"500"}
			}
			if !public {
				need = append(need, "401", "429")
			}
			if !public && !strings.HasSuffix(path, checkjwt) { // which needs no right
				need = append(need, "403", "409")
			}
			if op.RequestBody != nil {
				need = append(need, "400", "413", "415")
			}
			if slices.Contains(op.Tags, "passes") { // whose right is not for single use
				need = slices.DeleteFunc(need, func(status string) bool { return status == "409" })
			}
			if op.OperationID == "putPassAsset" { // whose body is any file
				need = slices.DeleteFunc(need, func(status string) bool { return status == "415" })
			}
			if path == proximity {
				need, form = []string{"401", "403", "409", "429", "500"}, "application/json"
			}
			for _, status := range need {
				r := op.Responses.Value(status)
				if r == nil {
					t.Errorf("%s %s does not describe %s", method, path, status)
					continue
				}
				if r.Value.Content.Get(form) == nil {
					t.Errorf("%s %s: %s is not %s", method, path, status, form)
				}
				if waits := r.Value.Headers["Retry-After"] != nil; (status == "429" || status == "503") && !waits {
					t.Errorf("%s %s: %s has no Retry-After", method, path, status)
				}
			}
		}
	}
}

func TestDeviceCallsDescribeApplesTable(t *testing.T) {
	want := map[string][]string{
		"registerPassDevice":   {"200", "201", "400", "401", "404", "413", "429", "500", "503"},
		"unregisterPassDevice": {"200", "401", "404", "500", "503"},
		"listUpdatedPasses":    {"200", "204", "404", "500", "503"},
		"fetchPass":            {"200", "304", "401", "404", "500", "503"},
		"personalizePass":      {"200", "400", "401", "404", "409", "413", "429", "500", "503"},
		"logPassDevice":        {"200", "400", "404", "413", "429", "500", "503"},
	}
	anonymous := []string{"listUpdatedPasses", "personalizePass", "logPassDevice"}
	seen := 0
	for _, item := range contract(t).Paths.Map() {
		for _, op := range item.Operations() {
			if !slices.Contains(op.Tags, "pass-devices") {
				continue
			}
			seen++
			if diff := cmp.Diff(want[op.OperationID], slices.Sorted(maps.Keys(op.Responses.Map()))); diff != "" {
				t.Errorf("%s (-want +described):\n%s", op.OperationID, diff)
			}
			if asks := op.Security != nil && len(*op.Security) > 0; asks == slices.Contains(anonymous, op.OperationID) {
				t.Errorf("%s asks for authentication: %v", op.OperationID, asks)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d calls of devices", seen)
	}
}

// What the generated types leave out of the schemas, or add, would be a promise that
// only one of them makes.
func TestGeneratedTypesHaveTheMembersOfTheirSchemas(t *testing.T) {
	at := time.Unix(1, 0)
	one, number, yes, version := "x", 1, true, int64(1)
	found, files, object := []passkit.Finding{}, PassFiles{"x": "x"}, jsontext.Value(`{"x":1}`)
	list, more := []string{"x"}, map[string]jsontext.Value{}
	values := map[string]any{
		"SignCardRequest":        SignCardRequest{CardId: &one, EncryptedCard: &one, DeviceId: &one, ExternalCardId: &one, WalletType: &one, Trace: &yes, Certificates: &list, Certificate: &SignCardRequest_Certificate{union: []byte(`"x"`)}},
		"SignedCard":             SignedCard{Trace: &Trace{}},
		"Trace":                  Trace{},
		"ActivationDataRequest":  ActivationDataRequest{DeviceId: &one, TokenUniqueReference: &one, WalletType: &one},
		"ActivationData":         ActivationData{},
		"PutCardRequest":         PutCardRequest{},
		"MaskedCard":             MaskedCard{},
		"WalletSearchRequest":    WalletSearchRequest{},
		"WalletToken":            WalletToken{},
		"TokenActivationRequest": TokenActivationRequest{},
		"TokenActivation":        TokenActivation{},
		"WalletCard":             WalletCard{},
		"WalletCardToken":        WalletCardToken{},
		"WalletTokenState":       WalletTokenState{},
		"PutWalletTokenRequest": PutWalletTokenRequest{
			AuthorizationPath: &one, DeviceId: &one, ExternalCardId: &one, PanUniqueReference: &one, ProcessStatus: &one, TokenStatus: &one, TokenUniqueReference: &one,
		},
		"Enablement":     Enablement{},
		"EnablementRule": EnablementRule{BinFrom: &one, BinTo: &one, Product: &one},
		"Problem":        Problem{Detail: &one, Reason: &one, RequestId: &one, Code: &number, Findings: &found},
		"LegacyError":    LegacyError{},
		"ProximityToken": ProximityToken{},
		"MerchantToken":  MerchantToken{},
		"JWKSet":         JWKSet{},
		"MerchantTokenRequest": MerchantTokenRequest{
			AudFingerprints: &MerchantTokenRequest_AudFingerprints{union: []byte(`"x"`)}, Claims: &more, LifetimeSeconds: &number,
			Mbn: &one, Mcc: &one, SpCfg: &one, Tpid: &one, XTid: &one,
		},
		"DecisionRequest":     DecisionRequest{DeviceId: &one, Evidence: &[]Evidence{}, Owner: &CardOwner{}, SessionId: &one},
		"AppleRecommendation": AppleRecommendation{ConversationId: &one, ReasonCodes: &list},
		"CardOwner":           CardOwner{},
		"Evidence":            Evidence{Passcode: &one, Statement: &one, Verified: &yes},
		"Decision":            Decision{},
		"RequiredStep":        RequiredStep{},
		"PasscodeRequest":     PasscodeRequest{DeviceId: &one, Owner: &CardOwner{}, Statement: &one},
		"SentPasscode":        SentPasscode{},
		"VerificationRequest": VerificationRequest{},
		"Verification":        Verification{},

		"PassAsset":         PassAsset{},
		"PassBundleRequest": PassBundleRequest{},
		"PassDocument":      PassDocument{Files: &files, Findings: &found, Pass: object, Personalized: object, UpdatedAt: &one, Version: &version, Voided: &yes},
		"PassType":          PassType{Certificate: &one, Files: &files, Findings: &found, Revision: &version, Template: object},

		"Health":           health{Checks: []checkResult{}},
		"LogState":         LogState{Checkpoint: &audit.Checkpoint{}},
		"LogList":          LogList{Logs: []audit.LogInfo{}},
		"LogInfo":          audit.LogInfo{Name: one, Origin: one, Created: at, Unlisted: yes, Idle: yes},
		"ProposedChange":   ProposedChange{Document: object},
		"ApprovedDocument": ApprovedDocument{},
		"Change":           ChangeDocument{Document: object, Decider: &PersonDocument{}, Decided: &at},
		"Person":           PersonDocument{},
		"ImportResults":    ImportResults{},
		"RekeyPlace":       RekeyPlace{},
		"EnablementRules":  EnablementRules{},
		"KeyInventory":     keys.Report{},
		"MerchantClaims":   MerchantClaims{AudFingerprints: &list, Mbn: &one, Mcc: &one, RefreshToken: &yes, SpCfg: &one, Tpid: &one, XTid: &one},
	}
	schemas := maps.Clone(contract(t).Components.Schemas)
	delete(schemas, "Findings")     // a list of a type of package passkit's
	delete(schemas, "PassFiles")    // any names
	delete(schemas, "WalletStatus") // a text
	delete(schemas, "KeyEntry")     // has more members than are described
	if diff := cmp.Diff(slices.Sorted(maps.Keys(schemas)), slices.Sorted(maps.Keys(values))); diff != "" {
		t.Fatalf("(-schemas +looked at here): %s", diff)
	}
	for name, value := range values {
		var members map[string]any
		b, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(b, &members)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(maps.Keys(schemas[name].Value.Properties))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(members))); diff != "" {
			t.Errorf("%s (-schema +type): %s", name, diff)
		}
	}
	if !strings.Contains(contract(t).Info.Description, "RFC 9457") {
		t.Error("the description does not say what errors are")
	}
}
