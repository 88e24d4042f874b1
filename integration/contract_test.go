package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"pgregory.net/rapid"
)

// canaryPAN is put wherever a caller can put something.
const canaryPAN = "6011000990139424"

// contract is the API's description, and what was answered to requests made from it.
type contract struct {
	s        *server
	router   routers.Router
	requests []operation
}

// operation is one method of one path, with its examples: of the names in the path, and of the
// body.
type operation struct {
	method, path string
	names        map[string]string
	example      any
}

func newContract(t *testing.T, s *server) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../httpapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc.Servers = openapi3.Servers{{URL: s.info.BaseURL}}
	c := &contract{s: s}
	if c.router, err = gorillamux.NewRouter(doc); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		item := doc.Paths.Value(path)
		for _, method := range slices.Sorted(maps.Keys(item.Operations())) {
			described := item.Operations()[method]
			if slices.Contains(described.Tags, "admin") {
				continue // is not on the API listener
			}
			op := operation{method: method, path: path, names: map[string]string{}}
			for _, p := range slices.Concat(item.Parameters, described.Parameters) {
				if p.Value.In == "path" {
					op.names[p.Value.Name] = p.Value.Example.(string)
				}
			}
			if body := described.RequestBody; body != nil {
				if media := body.Value.Content.Get("application/json"); media != nil {
					op.example = media.Example
				}
			}
			c.requests = append(c.requests, op)
		}
	}
	return c
}

// odd are values that have broken decoders, validators and logs before.
var odd = rapid.OneOf(
	rapid.Just[any](nil), rapid.Just[any](canaryPAN), rapid.Just[any](json.Number(canaryPAN)), rapid.Just[any](""), rapid.Just[any](true),
	rapid.Just[any](map[string]any{"a": canaryPAN}), rapid.Just[any]([]any{canaryPAN, nil}), rapid.Just[any](json.Number("1e999")),
	rapid.Just[any](strings.Repeat("A", 20000)), rapid.Just[any]("\u202e\u0000"), rapid.Just[any]("a.b.c.d.e"),
	rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
)

// oddName are texts that stand in a path for a name.
var oddName = rapid.SampledFrom([]string{"demo-visa-1", canaryPAN, "no-such-card", "6bTQCXBbmwQ4rNrpYYwbaqEJ6Q0FrJqrJ7rHF1Uv6uE", "a%00b", strings.Repeat("a", 200)})

// at is the path with names that are the example's, or others.
func (op operation) at(t *rapid.T) string {
	path := op.path
	for _, name := range slices.Sorted(maps.Keys(op.names)) {
		value := op.names[name]
		if rapid.Bool().Draw(t, "odd "+name) {
			value = oddName.Draw(t, name)
		}
		path = strings.Replace(path, "{"+name+"}", value, 1)
	}
	return path
}

// body is the example, with members changed, dropped or added, or something else altogether.
func (op operation) body(t *rapid.T, valid map[string]any) []byte {
	if rapid.IntRange(0, 9).Draw(t, "shape") == 0 {
		return []byte(rapid.OneOf(rapid.String(), rapid.Just("{"), rapid.Just("null"), rapid.Just(`{"a":1}{"b":2}`), rapid.Just(canaryPAN)).Draw(t, "body"))
	}
	members := map[string]any{}
	if example, ok := op.example.(map[string]any); ok {
		maps.Copy(members, example)
	}
	if rapid.Bool().Draw(t, "valid") {
		maps.Copy(members, valid)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			members[name] = odd.Draw(t, name)
		case 1:
			delete(members, name)
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "more") == 0 {
		members[rapid.OneOf(rapid.Just(canaryPAN), rapid.Just("encryptedCard"), rapid.Just("trace"), rapid.String()).Draw(t, "name")] = odd.Draw(t, "value")
	}
	b, err := json.Marshal(members)
	if err != nil {
		return []byte("{}")
	}
	return b
}

// Whatever is sent to whichever operation, the answer is one that the description has, never
// the service's own fault, and repeats no card number; nor does the log.
func TestContractHoldsWhateverIsSent(t *testing.T) {
	s := start(t, t.TempDir(), nil, []string{"MINTMARK_LOG_LEVEL=debug"})
	c := newContract(t, s)
	valid := s.newRequest()
	statuses := map[int]int{}
	check := func(t *rapid.T) {
		op := rapid.SampledFrom(c.requests).Draw(t, "operation")
		var body []byte
		if op.example != nil {
			body = op.body(t, valid)
		}
		path := op.at(t)
		req, err := http.NewRequest(op.method, s.info.BaseURL+path, bytes.NewReader(body))
		if err != nil {
			t.Skip("no request")
		}
		token := s.info.Clients.Issuer.Token
		if rapid.IntRange(0, 9).Draw(t, "token") == 0 {
			token = canaryPAN
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", rapid.SampledFrom([]string{"application/json", "application/json", "application/json", "text/plain"}).Draw(t, "type"))
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		statuses[a.status]++
		// The proximity endpoint answers 500 for claims that are missing, as its clients expect.
		if a.status >= 500 && op.path != "/apple/proximity-token" {
			t.Fatalf("%s %s answers %d: %s", op.method, path, a.status, a.body)
		}
		// A merchant JWT has the claims that the caller chose, and a pass what its issuer put there:
		// they are what is signed.
		chosen := a.status < 300 && (op.path == "/v1/merchant-tokens" || strings.HasPrefix(op.path, "/api/"))
		if leaks(a.body, canaryPAN) != "" && !chosen {
			t.Fatalf("%s %s repeats the card number: %s", op.method, path, a.body)
		}
		c.validate(t, req, body, a)
	}
	reached := func() bool {
		return statuses[200] != 0 && statuses[400] != 0 && statuses[404] != 0 && statuses[422] != 0
	}
	// Of a hundred requests each, unless -rapid.checks says otherwise. One in a hundred or so is
	// understood and refused: chance may have it that none of the first four hundred is.
	for n := 0; n < 4 || n < 40 && !reached() && !t.Failed(); n++ {
		rapid.Check(t, check)
	}
	if !reached() {
		t.Errorf("the requests did not reach far: %v", statuses)
	}
	if form := leaks([]byte(s.stderr.String()), canaryPAN); form != "" {
		t.Errorf("the card number stands in the log, %s", form)
	}
	if strings.Contains(s.stderr.String(), "panic") {
		t.Error("there was a panic")
	}
}

// validate holds an answer against the description.
func (c *contract) validate(t *rapid.T, req *http.Request, body []byte, a answer) {
	again := req.Clone(context.Background())
	again.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := c.router.FindRoute(again)
	if err != nil {
		return // a path that is none of the description's
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: again, PathParams: params, Route: route},
		Status:                 a.status, Header: a.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(a.body)
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Fatalf("%s %s: answer %d is not as described: %v", req.Method, route.Path, a.status, err)
	}
}
