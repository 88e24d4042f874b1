package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// A rehearsal sends what the API description shows to a server, and holds each answer against
// what it says comes back. It keeps book of what came.
type rehearsal struct {
	*stage
	doc *openapi3.T
	ops map[string]operationOf // by operationId

	people map[string]*party // further clients, by name
	keep   map[string]string // what answers gave for later requests

	came  map[string]bool // "operationId status" that was answered
	shown map[string]bool // examples, by name, that an answer was equal to
}

// operationOf is one operation as the description has it.
type operationOf struct {
	*openapi3.Operation
	method, path string
	item         *openapi3.PathItem
	admin        bool
}

func init() {
	for _, mediaType := range []string{"application/pem-certificate-chain", "application/yaml", "application/jsonl"} {
		openapi3filter.RegisterBodyDecoder(mediaType, openapi3filter.PlainBodyDecoder)
	}
	for _, mediaType := range []string{"application/vnd.apple.pkpass", "application/vnd.apple.pkpasses"} {
		openapi3filter.RegisterBodyDecoder(mediaType, openapi3filter.FileBodyDecoder)
	}
}

func newRehearsal(t *testing.T, s *server) *rehearsal {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../httpapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := &rehearsal{
		stage: &stage{server: s}, doc: doc, ops: map[string]operationOf{}, people: map[string]*party{},
		keep: map[string]string{}, came: map[string]bool{}, shown: map[string]bool{},
	}
	for template, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			r.ops[op.OperationID] = operationOf{op, method, template, item, slices.Contains(op.Tags, "admin")}
		}
	}
	return r
}

// A sending is a request in the making: the example, as it stands, with what a caller has to
// make anew.
type sending struct {
	op            operationOf
	names         map[string]string
	query         url.Values
	header        http.Header
	authorization string
	mediaType     string
	body          any // JSON, but []byte as it is; nil for none
	host          string
}

// example is an operation's request as the description shows it, by whoever may send it.
func (r *rehearsal) example(id string) *sending {
	r.t.Helper()
	op, ok := r.ops[id]
	if !ok {
		r.t.Fatalf("the description has no operation %s", id)
	}
	s := &sending{op: op, names: map[string]string{}, query: url.Values{}, header: http.Header{}}
	for _, p := range append(slices.Clone(op.item.Parameters), op.Parameters...) {
		if p.Value.Required && p.Value.Example == nil {
			r.t.Fatalf("%s: the parameter %s has no example", id, p.Value.Name)
		}
		switch {
		case p.Value.In == "path":
			s.names[p.Value.Name] = fmt.Sprint(p.Value.Example)
		case p.Value.In == "query" && p.Value.Required:
			s.query.Set(p.Value.Name, fmt.Sprint(p.Value.Example))
		}
	}
	if op.RequestBody != nil {
		content := op.RequestBody.Value.Content
		s.mediaType = slices.Sorted(maps.Keys(content))[0]
		s.body = clone(r.t, content[s.mediaType].Example)
	}
	if op.Security != nil && len(*op.Security) > 0 {
		s.authorization = "Bearer " + r.issuer().token(nil)
	}
	if fresh := freshened[id]; fresh != nil {
		fresh(r, s)
	}
	return s
}

func clone(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A change turns an example into a request that gets another answer.
type change func(*sending)

func as(token string) change        { return func(s *sending) { s.authorization = "Bearer " + token } }
func nobody(s *sending)             { s.authorization = "" }
func rawBody(b []byte) change       { return func(s *sending) { s.body = b } }
func typed(mediaType string) change { return func(s *sending) { s.mediaType = mediaType } }
func named(name, value string) change {
	return func(s *sending) { s.names[name] = value }
}
func queried(name, value string) change {
	return func(s *sending) { s.query.Set(name, value) }
}
func twice(name string) change {
	return func(s *sending) { s.query[name] = []string{"0", "0"} }
}

// onAdmin sends what both listeners have to the admin one.
func onAdmin(s *sending) { s.op.admin = true }

func headed(name, value string) change {
	return func(s *sending) { s.header.Set(name, value) }
}

// member sets a member of the body; nil takes it out.
func member(name string, value any) change {
	return func(s *sending) {
		body := s.body.(map[string]any)
		if value == nil {
			delete(body, name)
			return
		}
		body[name] = value
	}
}

// send sends an operation's example with changes, and checks that the answer is what the
// description says of this status.
func (r *rehearsal) send(id string, status int, changes ...change) answer {
	r.t.Helper()
	s := r.example(id)
	for _, c := range changes {
		c(s)
	}
	return r.deliver(s, status)
}

func (r *rehearsal) deliver(s *sending, status int) answer {
	r.t.Helper()
	a, req := r.transmit(s)
	if a.status != status {
		r.t.Errorf("%s %s answers %d instead of %d: %.400s", s.op.OperationID, req.URL, a.status, status, a.body)
		return a
	}
	r.judge(s.op, req, a)
	return a
}

// transmit sends the request, and does no more.
func (r *rehearsal) transmit(s *sending) (answer, *http.Request) {
	r.t.Helper()
	req := r.made(s)
	a, err := do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return a, req
}

// made is the request, ready to be sent.
func (r *rehearsal) made(s *sending) *http.Request {
	r.t.Helper()
	at := s.op.path
	for name, value := range s.names {
		escaped := url.PathEscape(value)
		if s.op.OperationID == "getTile" { // whose path has slashes
			escaped = value
		}
		at = strings.Replace(at, "{"+name+"}", escaped, 1)
	}
	if len(s.query) > 0 {
		at += "?" + s.query.Encode()
	}
	base := r.info.BaseURL
	if s.op.admin {
		base = r.info.AdminURL
	}
	body, isRaw := s.body.([]byte)
	if !isRaw && s.body != nil {
		var err error
		if body, err = json.Marshal(s.body); err != nil {
			r.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(s.op.method, base+at, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header = s.header.Clone()
	if s.mediaType != "" {
		req.Header.Set("Content-Type", s.mediaType)
	}
	if s.authorization != "" {
		req.Header.Set("Authorization", s.authorization)
	}
	req.Host = s.host
	return req
}

// judge holds an answer against its schema and its examples.
func (r *rehearsal) judge(op operationOf, req *http.Request, a answer) {
	r.t.Helper()
	r.came[op.OperationID+" "+strconv.Itoa(a.status)] = true
	err := openapi3filter.ValidateResponse(r.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req, Route: &routers.Route{Spec: r.doc, Path: op.path, PathItem: op.item, Method: op.method, Operation: op.Operation},
		},
		Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		r.t.Errorf("%s: answer %d is not as described: %v: %.400s", op.OperationID, a.status, err, a.body)
		return
	}
	response := op.Responses.Value(strconv.Itoa(a.status)).Value
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	media := response.Content[mediaType]
	switch {
	case media == nil: // no body is described
		if len(a.body) > 0 {
			r.t.Errorf("%s: answer %d has a body of %s, which is not described", op.OperationID, a.status, mediaType)
		}
	case mediaType == "application/problem+json":
		r.judgeProblem(op, media, a)
	case strings.HasSuffix(mediaType, "json"):
		r.judgeExamples(op, media, a)
	}
}

// judgeProblem requires that a problem is one of the examples: in all that callers go by. An
// example counts as shown when the texts for people are the same too.
func (r *rehearsal) judgeProblem(op operationOf, media *openapi3.MediaType, a answer) {
	r.t.Helper()
	var got map[string]any
	if err := json.Unmarshal(a.body, &got); err != nil {
		r.t.Fatal(err)
	}
	known := false
	for name, e := range media.Examples {
		want := e.Value.Value.(map[string]any)
		same := func(members ...string) bool {
			return !slices.ContainsFunc(members, func(m string) bool { return fmt.Sprint(got[m]) != fmt.Sprint(want[m]) })
		}
		known = known || same("type", "status")
		if same("type", "title", "status", "detail", "reason", "code") {
			r.shown[path.Base(name)] = true
		}
	}
	if !known {
		r.t.Errorf("%s: answer %d is none of the examples: %s", op.OperationID, a.status, a.body)
	}
}

// judgeExamples requires that an answer has the members of the example. Of several examples,
// which stand for several outcomes, one must be the answer.
func (r *rehearsal) judgeExamples(op operationOf, media *openapi3.MediaType, a answer) {
	r.t.Helper()
	var got any
	if err := json.Unmarshal(a.body, &got); err != nil {
		r.t.Fatal(err)
	}
	if missing := lacking(media.Example, got); media.Example != nil && missing != "" {
		r.t.Errorf("%s: answer %d lacks %s of its example: %.400s", op.OperationID, a.status, missing, a.body)
	}
	equal := len(media.Examples) == 0
	for name, e := range media.Examples {
		if reflect.DeepEqual(clone(r.t, e.Value.Value), got) {
			equal, r.shown[op.OperationID+" "+name] = true, true
		}
	}
	if !equal {
		r.t.Errorf("%s: answer %d is none of its examples: %s", op.OperationID, a.status, a.body)
	}
}

// lacking is a member that the example has, at any depth of objects, and the answer has not.
// Of a list the first element counts, which one of the answer's must be like.
func lacking(example, got any) string {
	switch want := example.(type) {
	case []any:
		list, ok := got.([]any)
		if !ok {
			return "a list"
		}
		if len(want) > 0 && len(list) > 0 && !slices.ContainsFunc(list, func(one any) bool { return lacking(want[0], one) == "" }) {
			return "an element with " + lacking(want[0], list[0])
		}
	case map[string]any:
		have, ok := got.(map[string]any)
		if !ok {
			return "an object"
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			value, ok := have[name]
			if !ok {
				return name
			}
			if slices.Contains([]string{"pass", "files", "template", "document", "rules"}, name) { // callers choose
				continue
			}
			if value != nil {
				if missing := lacking(want[name], value); missing != "" {
					return name + "." + missing
				}
			}
		}
	}
	return ""
}

// promised are all statuses of all operations, and all examples by name.
func (r *rehearsal) promised() (statuses, examples map[string]bool) {
	statuses, examples = map[string]bool{}, map[string]bool{}
	for id, op := range r.ops {
		for status, response := range op.Responses.Map() {
			statuses[id+" "+status] = true
			for mediaType, media := range response.Value.Content {
				for name := range media.Examples {
					if mediaType != "application/problem+json" {
						name = id + " " + name
					}
					examples[name] = true
				}
			}
		}
	}
	return statuses, examples
}
