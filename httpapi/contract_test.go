package httpapi

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
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
	example := contract(t).Paths.Find(signedCards).Post.RequestBody.Value.Content.Get("application/json").Example.(map[string]any)
	a.do(a.post(text(example))).expect(t, 422, "certificate-chain")
	example = maps.Clone(example)
	example["certificates"] = goodBody()["certificates"]
	if got := a.do(a.post(text(example))); got.status != 200 {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestRoutesAndContractAreTheSame(t *testing.T) {
	var routed, described []string
	param := regexp.MustCompile(`[:*]([A-Za-z]+)`)
	for _, r := range newAPI(t, provisioner(seals)).handler.(*gin.Engine).Routes() {
		routed = append(routed, r.Method+" "+param.ReplaceAllString(r.Path, "{$1}"))
	}
	for path, item := range contract(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(described)
	if diff := cmp.Diff(described, routed); diff != "" {
		t.Errorf("openapi.yaml and the routes differ (-described +routed):\n%s", diff)
	}
}

// public are the operations for everybody; they take nothing and can fail in one way.
var public = map[string]bool{"GET /v1/audit/checkpoint": true}

// A caller that reads openapi.yaml finds every problem there, with the status it has.
func TestEveryOperationDescribesItsFailures(t *testing.T) {
	for path, item := range contract(t).Paths.Map() {
		for method, op := range item.Operations() {
			statuses := []string{"400", "401", "403", "413", "415", "500", "503"}
			if public[method+" "+path] {
				statuses = []string{"503"}
			} else if op.Security == nil || len(*op.Security) == 0 {
				t.Errorf("%s %s asks for no authentication", method, path)
			}
			for _, status := range statuses {
				r := op.Responses.Value(status)
				if r == nil {
					t.Errorf("%s %s does not describe %s", method, path, status)
					continue
				}
				if r.Value.Content.Get("application/problem+json") == nil {
					t.Errorf("%s %s: %s is not application/problem+json", method, path, status)
				}
			}
		}
	}
}

// What the generated types leave out of the schemas, or add, would be a promise that
// only one of them makes.
func TestGeneratedTypesHaveTheMembersOfTheirSchemas(t *testing.T) {
	one := "x"
	list := []string{"x"}
	for name, value := range map[string]any{
		"SignCardRequest": SignCardRequest{CardId: &one, ExternalCardId: &one, WalletType: &one, Certificates: &list, Certificate: &SignCardRequest_Certificate{union: []byte(`"x"`)}},
		"SignedCard":      SignedCard{},
		"Problem":         Problem{Detail: &one, Reason: &one, RequestId: &one},
	} {
		var members map[string]any
		b, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(b, &members)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(maps.Keys(contract(t).Components.Schemas[name].Value.Properties))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(members))); diff != "" {
			t.Errorf("%s (-schema +type): %s", name, diff)
		}
	}
	if !strings.Contains(contract(t).Info.Description, "RFC 9457") {
		t.Error("the description does not say what errors are")
	}
}
