package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

const signedCards = "/issuer/push-provisioning/signed-cards"

// The issuer may seal cards, the backend have merchant JWTs signed, the app's merchant JWTs
// obtain proximity tokens; the bystander is known and has no right.
const (
	issuer    = "https://issuer.example"
	backend   = "https://backend.example"
	app       = "merchants.example"
	bystander = "https://bystander.example"
	audience  = "mint.example"
	kid       = "2026-07"
)

// What must never come back or be logged, whatever a caller does. canary stands in
// members, headers, query and path; the number is a card's (a published test number).
const (
	canary       = "CANARY-7f3a9c"
	canaryNumber = "5204245250001488"
)

func TestMain(m *testing.M) {
	// What Gin itself would print ends in the same place as everything else.
	gin.DefaultWriter, gin.DefaultErrorWriter = ginOutput, ginOutput
	openapi3filter.RegisterBodyDecoder("application/pem-certificate-chain", openapi3filter.PlainBodyDecoder)
	os.Exit(m.Run())
}

var ginOutput = &lockedBuffer{}

// lockedBuffer collects what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var clientKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// token is a bearer token of a client, with claims changed; nil takes one out.
func token(t testing.TB, iss string, changes jwt.MapClaims) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": iss, "aud": audience, "sub": "user-1", "jti": "jti-1",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	j := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	j.Header["kid"] = kid
	s, err := j.SignedString(clientKey())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// provisioner is a Provisioner made of one function.
type provisioner func(ctx context.Context, who provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error)

func (p provisioner) SignCard(ctx context.Context, who provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error) {
	return p(ctx, who, req)
}

// Of the other operations it knows no card.

func (provisioner) ActivationData(context.Context, provisioning.Caller, provisioning.ActivationRequest) ([]byte, error) {
	return nil, provisioning.ErrUnknownCard
}

func (provisioner) PutCard(context.Context, provisioning.Caller, string, string) (provisioning.Masked, error) {
	return provisioning.Masked{}, provisioning.ErrUnknownCard
}

func (provisioner) GetCard(context.Context, provisioning.Caller, string) (provisioning.Masked, error) {
	return provisioning.Masked{}, provisioning.ErrUnknownCard
}

func (provisioner) DeleteCard(context.Context, provisioning.Caller, string) error {
	return provisioning.ErrUnknownCard
}

// sealed is what the domain gives for a well-formed request.
var sealed = provisioning.SignedCard{
	ActivationData:     []byte(`{"version":"3"}`),
	EphemeralPublicKey: append([]byte{4}, bytes.Repeat([]byte{0xfb}, 64)...), // + and / in Base64
	EncryptedData:      []byte{0xff, 0xfe, 0xfd},
}

func seals(context.Context, provisioning.Caller, provisioning.SignCard) (provisioning.SignedCard, error) {
	return sealed, nil
}

func failsWith(err error) provisioner {
	return func(context.Context, provisioning.Caller, provisioning.SignCard) (provisioning.SignedCard, error) {
		return provisioning.SignedCard{}, err
	}
}

// mustNotBeAsked fails the test if a request gets as far as the domain.
func mustNotBeAsked(t *testing.T) provisioner {
	return func(context.Context, provisioning.Caller, provisioning.SignCard) (provisioning.SignedCard, error) {
		t.Error("the domain was asked")
		return sealed, nil
	}
}

// refusals remembers what was recorded.
type refusals struct {
	mu   sync.Mutex
	seen []record.Intent
	err  error
}

func (r *refusals) Refuse(_ context.Context, in record.Intent, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	in.Refs = map[string]string{"reason": reason}
	r.seen = append(r.seen, in)
	return r.err
}

// api is the handler of the API listener with its surroundings.
type api struct {
	t        *testing.T
	listener string // of which it is
	handler  http.Handler
	metrics  *Metrics
	refusals *refusals
	log      *lockedBuffer
	logger   *slog.Logger
}

// A setup is what an API is made of.
type setup struct {
	Config
	clients []access.Client
	wrap    func(Callers) Callers // what stands before the verifier; nil for nothing
}

// newAPI gives an API with all groups, whose merchants and keys must not be asked unless a
// change says otherwise.
func newAPI(t *testing.T, p Provisioner, changes ...func(*setup)) *api {
	t.Helper()
	a := &api{t: t, listener: "api", metrics: NewMetrics("test"), refusals: &refusals{}, log: &lockedBuffer{}}
	a.logger = slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := setup{
		clients: []access.Client{
			client(issuer, "bank-a", access.SignCards), client(backend, "bank-a", access.SignMerchantTokens),
			client(app, "bank-a", access.CreateAppleProximityToken), client(bystander, "bank-b"),
		},
		Config: Config{
			Groups: []Group{IssuerGroup, MerchantGroup, PassesGroup, KeysGroup}, Provisioning: p, Merchant: merchants{t: t}, Keys: publicKeys{},
			Refusals: a.refusals, Metrics: a.metrics, Log: a.logger, Now: time.Now, ClaimLease: time.Minute, RequestTimeout: 15 * time.Second,
		},
	}
	for _, change := range changes {
		change(&s)
	}
	verifier, err := access.NewVerifier(s.clients, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.Callers = verifier
	if s.wrap != nil {
		s.Callers = s.wrap(verifier)
	}
	a.handler = New(s.Config)
	t.Cleanup(func() {
		if out := ginOutput.String(); out != "" {
			t.Errorf("Gin printed %q", out)
		}
	})
	return a
}

func within(timeout time.Duration) func(*setup) {
	return func(s *setup) { s.RequestTimeout = timeout }
}

// withClient adds a client, in place of the one of the same iss.
func withClient(c access.Client) func(*setup) {
	return func(s *setup) {
		s.clients = append(slices.DeleteFunc(slices.Clone(s.clients), func(old access.Client) bool { return old.Issuer == c.Issuer }), c)
	}
}

// client is one that signs its tokens with the tests' key.
func client(iss, tenant string, rights ...access.Right) access.Client {
	c := access.Client{
		Issuer: iss, Tenant: tenant, Audience: audience, MaxLifetime: 15 * time.Minute, Leeway: access.DefaultLeeway,
		Keys: []access.Key{{ID: kid, Algorithm: access.RS256, Public: clientKey().Public()}},
	}
	for _, r := range rights {
		c.Grants = append(c.Grants, access.Grant{Right: r})
	}
	return c
}

// goodBody is a well-formed request.
func goodBody() map[string]any {
	return map[string]any{
		"externalCardId": "card-1",
		"certificates":   []string{base64.StdEncoding.EncodeToString(leaf), base64.StdEncoding.EncodeToString(sub)},
		"nonce":          "c5846fb5",
		"nonceSignature": "40" + strings.Repeat("ab", 80),
		"walletType":     "APPLE_PAY",
	}
}

// changed is goodBody with members changed; nil takes one out.
func changed(changes map[string]any) string {
	b := goodBody()
	for name, value := range changes {
		if value == nil {
			delete(b, name)
			continue
		}
		b[name] = value
	}
	return text(b)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// leaf and sub stand for certificates: the door decodes and counts them, and looks no
// further than the outermost DER.
var leaf, sub = []byte{0x30, 3, 2, 1, 1}, []byte{0x30, 3, 2, 1, 2}

// post is an authenticated request with a body.
func (a *api) post(body string) *http.Request {
	a.t.Helper()
	return a.postTo(signedCards, body, token(a.t, issuer, nil))
}

// postTo is a request with a body and a bearer token.
func (a *api) postTo(path, body, token string) *http.Request {
	a.t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

// An answer is what a caller got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do gives the answer to a request, after the contract has been held against it.
func (a *api) do(req *http.Request) answer {
	a.t.Helper()
	got := a.serve(req)
	a.keepsContract(req, got)
	return got
}

func (a *api) serve(req *http.Request) answer {
	rec := httptest.NewRecorder()
	a.handler.ServeHTTP(rec, req)
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

// keepsContract holds an answer against openapi.yaml, and against what every answer
// promises.
func (a *api) keepsContract(req *http.Request, got answer) {
	a.t.Helper()
	id := got.header.Get("X-Request-Id")
	if !requestIDForm.MatchString(id) {
		a.t.Errorf("X-Request-Id is %q", id)
	}
	path, op := operation(a.t, req)
	if op != nil && !slices.Contains(listeners(a.t, op), a.listener) {
		op = nil
	}
	kept := "no-store"
	if op != nil && slices.Contains(op.Tags, "keys") && got.status < 400 {
		kept = "public, max-age=300"
	}
	if h := got.header.Get("Cache-Control"); h != kept {
		a.t.Errorf("Cache-Control is %q", h)
	}
	if h := got.header.Get("X-Content-Type-Options"); h != "nosniff" {
		a.t.Errorf("X-Content-Type-Options is %q", h)
	}
	if !strings.Contains(a.log.String(), "requestId="+id) {
		a.t.Errorf("no log line has the request id %s", id)
	}
	doc := contract(a.t)
	if got.status >= 400 && req.Method != http.MethodHead {
		a.isAnError(got, path == proximity && got.status != http.StatusNotFound)
	}
	if op == nil || req.Method == http.MethodHead {
		return // 404 and 405 belong to no operation
	}
	item := doc.Paths.Find(path)
	err := openapi3filter.ValidateResponse(a.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: req.Method, Operation: op},
		},
		Status:  got.status,
		Header:  got.header,
		Body:    io.NopCloser(strings.NewReader(got.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		a.t.Errorf("answer %d breaks openapi.yaml: %v", got.status, err)
	}
}

// isAnError holds an answer against the form of errors: a problem, or what the proximity
// endpoint has in its place.
func (a *api) isAnError(got answer, legacy bool) {
	a.t.Helper()
	schema, contentType := "Problem", "application/problem+json"
	if legacy {
		schema, contentType = "LegacyError", "application/json"
	}
	body := jsonValue(a.t, got.body)
	if err := contract(a.t).Components.Schemas[schema].Value.VisitJSON(body); err != nil || got.header.Get("Content-Type") != contentType {
		a.t.Errorf("answer %d of type %s is no %s of the contract: %v", got.status, got.header.Get("Content-Type"), schema, err)
	}
	if id := got.header.Get("X-Request-Id"); legacy {
		if members := body.(map[string]any); len(members) != 1 {
			a.t.Errorf("the error has more members: %v", members)
		}
	} else if p := got.problem(a.t); p.Status != got.status || p.RequestID != id {
		a.t.Errorf("answer %d with X-Request-Id %s has the problem %+v", got.status, id, p)
	}
}

// operation finds what openapi.yaml says of a request, nil if nothing. HEAD is GET without
// its body (RFC 9110, 9.3.2).
func operation(t testing.TB, req *http.Request) (path string, op *openapi3.Operation) {
	t.Helper()
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	param := regexp.MustCompile(`\\\{[^}]*\}`) // as QuoteMeta leaves it
	paths := contract(t).Paths
	if item := paths.Find(req.URL.Path); item != nil {
		return req.URL.Path, ofMethod(item, method)
	}
	for template, item := range paths.Map() {
		if regexp.MustCompile("^" + param.ReplaceAllString(regexp.QuoteMeta(template), "[^/]*") + "$").MatchString(req.URL.Path) {
			return template, ofMethod(item, method)
		}
	}
	return "", nil
}

// ofMethod is the operation of a method, nil for methods that OpenAPI does not know either.
func ofMethod(item *openapi3.PathItem, method string) *openapi3.Operation {
	return item.Operations()[method]
}

// problemBody is an RFC 9457 document as a caller reads it.
type problemBody struct {
	Type, Title, Detail, Reason, RequestID string
	Status, Code                           int
}

func (g answer) problem(t testing.TB) problemBody {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal([]byte(g.body), &p); err != nil {
		t.Fatalf("answer %d is no problem document: %q", g.status, g.body)
	}
	return p
}

// expect checks status and the stable name of the problem.
func (g answer) expect(t testing.TB, status int, name string) {
	t.Helper()
	if g.status != status {
		t.Fatalf("answered %d instead of %d: %s", g.status, status, g.body)
	}
	if p := g.problem(t); p.Type != "urn:mintmark:problem:"+name || p.Title == "" {
		t.Errorf("problem %q, title %q; want %s", p.Type, p.Title, name)
	}
}

// holdsNothingOf fails if a needle came back or was logged.
func (a *api) holdsNothingOf(got answer, needles ...string) {
	a.t.Helper()
	var header bytes.Buffer
	_ = got.header.Write(&header)
	for _, n := range needles {
		for where, hay := range map[string]string{"body": got.body, "header": header.String(), "log": a.log.String()} {
			if strings.Contains(strings.ToLower(hay), strings.ToLower(n)) {
				a.t.Errorf("%s holds %q:\n%s", where, n, hay)
			}
		}
	}
}

// contract is openapi.yaml.
func contract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

var loadContract = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile("openapi.yaml")
})

func jsonValue(t testing.TB, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("no JSON: %q", s)
	}
	return v
}
