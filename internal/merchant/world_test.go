package merchant_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// No test leaves a request behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

// start is when every test begins.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A world is the merchant domain with all that it stands on: a real token, a real database
// and a clock.
type world struct {
	testing.TB
	token *hsmtest.Token
	store *store.Store
	log   *audit.Log
	db    *sql.DB // a connection of the test's own
	clock *clocktest.Clock
	hands *hands
	svc   *merchant.Service
}

// pattern is one that the test's author got right.
func pattern(text string) merchant.Matcher {
	p, err := access.NewPattern(text)
	if err != nil {
		panic(err)
	}
	return p
}

func patterns(texts ...string) (all []merchant.Matcher) {
	for _, t := range texts {
		all = append(all, pattern(t))
	}
	return all
}

// fingerprint is that of a certificate called name.
func fingerprint(name string) merchant.Fingerprint {
	sum := sha256.Sum256([]byte(name))
	return merchant.Fingerprint("sha256/" + base64.StdEncoding.EncodeToString(sum[:]))
}

// backend has merchant JWTs signed.
var backend = merchant.Caller{Tenant: "bank-a", Issuer: "https://backend.example", Subject: "server-1", RequestID: "request-1"}

// everything is an allowance without bounds.
func everything() merchant.Allowance {
	any := patterns("*")
	return merchant.Allowance{Subjects: any, Audiences: any, BusinessNames: any, CategoryCodes: any}
}

// settings are in order: two tenants, two acquirers, one backend without bounds.
func settings() merchant.Settings {
	return merchant.Settings{
		MaxLifetime:     time.Hour,
		Issuers:         map[string]string{"bank-a": "merchants-a", "bank-b": "merchants-b"},
		Allowances:      map[string]merchant.Allowance{backend.Issuer: everything()},
		Acquirers:       map[string]string{"merchants-a": "acquirer-1", "merchants-b": "acquirer-2", "app": "acquirer-1"},
		Terminals:       map[string][]string{"acquirer-1": {"00000001", "00000002"}, "acquirer-2": {"00000003"}, "": {"00000009"}},
		ProximityIssuer: "psp.example",
		ProximityClaims: merchant.DefaultTemplate(),
	}
}

func newWorld(t testing.TB, change ...func(*merchant.Settings)) *world {
	t.Helper()
	unused := []hsm.Purpose{hsm.TAVSigning, hsm.CardVault, hsm.CardIndex, hsm.APITLS}
	var without []hsmtest.Option
	for _, p := range unused {
		without = append(without, hsmtest.Without(p))
	}
	path := filepath.Join(t.TempDir(), "mintmark.db")
	w := &world{TB: t, token: hsmtest.New(t, without...), clock: clocktest.New(start)}
	var err error
	if w.store, err = store.Open(context.Background(), path, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	if w.db, err = sql.Open("sqlite3", (&url.URL{Scheme: "file", Path: path}).String()+"?_busy_timeout=5000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.log = audit.New(w.store, w.clock.Now)
	w.hands = &hands{Gate: signer.New(w.token.Token)}
	s := settings()
	for _, c := range change {
		c(&s)
	}
	if w.svc, err = merchant.New(merchant.Config{Recorder: w.log, Gate: w.hands, Now: w.clock.Now}, s); err != nil {
		t.Fatal(err)
	}
	return w
}

// hands are on the gate: a test may do something before or after an operation, and let it
// fail.
type hands struct {
	merchant.Gate
	before, after func() error
}

func (h *hands) around(do func() (signer.SignedJWT, error)) (signer.SignedJWT, error) {
	if h.before != nil {
		if err := h.before(); err != nil {
			return signer.SignedJWT{}, err
		}
	}
	out, err := do()
	if h.after != nil && err == nil {
		err = h.after()
	}
	if err != nil {
		return signer.SignedJWT{}, err
	}
	return out, nil
}

func (h *hands) SignMerchantJWT(ctx context.Context, t *record.Ticket, claims jwt.Claims) (signer.SignedJWT, error) {
	return h.around(func() (signer.SignedJWT, error) { return h.Gate.SignMerchantJWT(ctx, t, claims) })
}

func (h *hands) SignProximityToken(ctx context.Context, t *record.Ticket, claims jwt.Claims) (signer.SignedJWT, error) {
	return h.around(func() (signer.SignedJWT, error) { return h.Gate.SignProximityToken(ctx, t, claims) })
}

// request is one in order.
func request() merchant.TokenRequest {
	return merchant.TokenRequest{Subject: "shop-17", User: "cashier@shop.example", Audience: "kernel.example"}
}

func (w *world) sign(who merchant.Caller, req merchant.TokenRequest) (merchant.Token, error) {
	return w.svc.SignToken(context.Background(), who, req)
}

// mustSign signs, and requires that the token verifies. It gives header and payload.
func (w *world) mustSign(req merchant.TokenRequest) (out merchant.Token, header, payload string) {
	w.Helper()
	out, err := w.sign(backend, req)
	if err != nil {
		w.Fatal(err)
	}
	header, payload = w.verify(out.Token, hsm.MerchantJWT, jose.RS256)
	return out, header, payload
}

// verify verifies a token with the public key of a purpose.
func (w *world) verify(token string, p hsm.Purpose, alg jose.SignatureAlgorithm) (header, payload string) {
	w.Helper()
	pub, err := w.token.Public(string(p))
	if err != nil {
		w.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		w.Fatal(err)
	}
	claims, err := parsed.Verify(pub)
	if err != nil {
		w.Fatalf("%s does not verify: %v", token, err)
	}
	b, err := base64.RawURLEncoding.DecodeString(token[:strings.Index(token, ".")])
	if err != nil {
		w.Fatal(err)
	}
	return string(b), string(claims)
}

func (w *world) entries() []audit.Entry {
	w.Helper()
	all, err := w.store.Read(context.Background(), 0, 1<<20)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// entryBody is the body of any kind of entry.
type entryBody struct {
	Operation record.Operation // of an intent or a refusal
	Outcome   record.Outcome   // of a result
	Reason    string           // of a refusal or a result
	Times     int              // of refusals that were summed up
	Intent    record.Intent    // of an operation, whose Result follows
	Result    record.Result
}

func (w *world) body(e audit.Entry) (b entryBody) {
	w.Helper()
	if err := json.Unmarshal(e.Body, &b); err != nil {
		w.Fatal(err)
	}
	return b
}

// lines is what was recorded: kind, operation, outcome and reason.
func (w *world) lines() []string {
	w.Helper()
	var lines []string
	for _, e := range w.entries() {
		b := w.body(e)
		line := string(e.Kind)
		for _, part := range []string{
			strings.TrimPrefix(string(b.Operation)+string(b.Intent.Operation), "merchant."), string(b.Outcome), string(b.Result.Outcome), b.Reason, b.Result.Reason,
		} {
			if part != "" {
				line += " " + part
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func (w *world) requireLog(want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.lines()); diff != "" {
		w.Errorf("the log (-want +got):\n%s", diff)
	}
}

// rows gives the first column of a query.
func (w *world) rows(query string) []string {
	w.Helper()
	rows, err := w.db.Query(query)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			w.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
	return all
}

// requireClaims requires the state and the fence of every bearer token that was claimed.
func (w *world) requireClaims(want ...string) {
	w.Helper()
	if got := w.rows("SELECT state || ' ' || fence FROM used_tokens ORDER BY 1"); !slices.Equal(got, want) {
		w.Errorf("claims are %q, want %q", got, want)
	}
}

// failEntries makes the database refuse entries of a kind, until mend is called.
func (w *world) failEntries(kind audit.Kind) (mend func()) {
	w.Helper()
	w.execute(`CREATE TRIGGER fault BEFORE INSERT ON audit_entries WHEN NEW.kind = '` + string(kind) + `'
		BEGIN SELECT RAISE(ABORT, 'text of the driver'); END`)
	return func() { w.execute("DROP TRIGGER fault") }
}

func (w *world) execute(text string) {
	w.Helper()
	if _, err := w.db.Exec(text); err != nil {
		w.Fatal(err)
	}
}

// requireCalls requires how often the token was asked since the last time.
func (w *world) requireCalls(want int, before int) {
	w.Helper()
	if n := w.token.Calls() - before; n != want {
		w.Errorf("the token was asked %d times, want %d", n, want)
	}
}

// requireRetry requires an error that says when to try again.
func requireRetry(t testing.TB, err error) {
	t.Helper()
	var later interface{ RetryAfter() time.Duration }
	if !errors.As(err, &later) || later.RetryAfter() <= 0 {
		t.Errorf("error %v has no RetryAfter", err)
	}
}

// errAway is a token that does not answer at the moment.
var errAway = away{}

type away struct{}

func (away) Error() string             { return "token is away" }
func (away) RetryAfter() time.Duration { return 3 * time.Second }

// value decodes JSON with its numbers as they are written.
func value(t testing.TB, text string) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// untouchable is every interface of the domain, with nothing in it: a call panics.
type untouchable struct {
	record.Recorder
	merchant.Gate
}
