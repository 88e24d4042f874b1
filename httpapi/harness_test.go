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

// The issuer may seal cards; the bystander is known and has no right.
const (
	issuer    = "https://issuer.example"
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

// token is a bearer token of a client.
func token(t testing.TB, iss string, changes jwt.MapClaims) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": iss, "aud": audience, "sub": "user-1", "jti": "jti-1",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, changes)
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
	handler  http.Handler
	metrics  *Metrics
	refusals *refusals
	log      *lockedBuffer
	logger   *slog.Logger
}

func newAPI(t *testing.T, p Provisioner) *api {
	t.Helper()
	return newAPIWithin(t, p, 15*time.Second)
}

func newAPIWithin(t *testing.T, p Provisioner, timeout time.Duration) *api {
	t.Helper()
	clients := []access.Client{
		{Issuer: issuer, Tenant: "bank-a", Rights: []access.Right{access.SignCards}},
		{Issuer: bystander, Tenant: "bank-b"},
	}
	for i := range clients {
		clients[i].Audience, clients[i].MaxLifetime, clients[i].Leeway = audience, 15*time.Minute, access.DefaultLeeway
		clients[i].Keys = []access.Key{{ID: kid, Algorithm: access.RS256, Public: clientKey().Public()}}
	}
	verifier, err := access.NewVerifier(clients, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	a := &api{t: t, metrics: NewMetrics("test"), refusals: &refusals{}, log: &lockedBuffer{}}
	a.logger = slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a.handler = New(Config{
		Verifier: verifier, Provisioning: p, Refusals: a.refusals,
		Metrics: a.metrics, Log: a.logger, RequestTimeout: timeout,
	})
	t.Cleanup(func() {
		if out := ginOutput.String(); out != "" {
			t.Errorf("Gin printed %q", out)
		}
	})
	return a
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
	req := httptest.NewRequest(http.MethodPost, signedCards, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token(a.t, issuer, nil))
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
	rec := httptest.NewRecorder()
	a.handler.ServeHTTP(rec, req)
	got := answer{rec.Code, rec.Header(), rec.Body.String()}
	a.keepsContract(req, got)
	return got
}

// keepsContract holds an answer against openapi.yaml, and against what every answer
// promises.
func (a *api) keepsContract(req *http.Request, got answer) {
	a.t.Helper()
	id := got.header.Get("X-Request-Id")
	if !requestIDForm.MatchString(id) {
		a.t.Errorf("X-Request-Id is %q", id)
	}
	if h := got.header.Get("Cache-Control"); h != "no-store" {
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
		p := got.problem(a.t)
		if err := doc.Components.Schemas["Problem"].Value.VisitJSON(jsonValue(a.t, got.body)); err != nil {
			a.t.Errorf("the answer is no problem of the contract: %v", err)
		}
		if p.Status != got.status || p.RequestID != id || got.header.Get("Content-Type") != "application/problem+json" {
			a.t.Errorf("answer %d with X-Request-Id %s and %s has the problem %+v", got.status, id, got.header.Get("Content-Type"), p)
		}
	}
	item := doc.Paths.Find(req.URL.Path)
	if item == nil || item.GetOperation(req.Method) == nil {
		return // 404 and 405 belong to no operation
	}
	err := openapi3filter.ValidateResponse(a.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: req.URL.Path, PathItem: item, Method: req.Method, Operation: item.GetOperation(req.Method)},
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

// problemBody is an RFC 9457 document as a caller reads it.
type problemBody struct {
	Type, Title, Detail, Reason, RequestID string
	Status                                 int
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
