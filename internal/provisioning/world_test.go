package provisioning_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// start is when every test begins.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// lease is how long a nonce stays claimed by a request that never ends.
const lease = time.Minute

// A world is push provisioning with all that it stands on: a real token, a real
// database, a simulated Apple, and a clock.
type world struct {
	testing.TB
	token *hsmtest.Token
	db    *sql.DB // a connection of the test's own
	store *store.Store
	path  string
	apple *appletest.Issued
	root  *appletest.Authority
	clock *clocktest.Clock
	hands *hands
	svc   *provisioning.Service
	rec   *audit.Log
	from  uint64 // the first entry after the set-up
}

// A demo card, under its id.
type demo struct{ id, pan, expiration, name string }

// demos are the cards of owner.
var demos = []demo{
	{"demo-mastercard-1", "5204245250001488", "12/49", "John Appleseed"},
	{"demo-mastercard-2", "5555555555554444", "06/48", "Zoë \"Quote\" O'Brien-Łukasz"},
	{"demo-maestro-1", "6759649826438453", "01/47", "Jane Appleseed"},
}

// owner owns the demo cards.
var owner = provisioning.Caller{
	Owner:     provisioning.Owner{Tenant: "bank", Issuer: "https://issuer.example", Subject: "user-1"},
	RequestID: "request-1",
}

// rules are the default ones, with time enough for a machine that is busy.
func rules() provisioning.DecisionRules {
	r := provisioning.DefaultDecisionRules()
	r.Within = 20 * time.Second
	return r
}

// newWorld makes a world with the demo cards in the vault.
func newWorld(t testing.TB, change ...func(*provisioning.Config)) *world {
	t.Helper()
	w := &world{TB: t, token: hsmtest.New(t), path: filepath.Join(t.TempDir(), "mintmark.db"), clock: clocktest.New(start)}
	var err error
	if w.store, err = store.Open(context.Background(), w.path, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	if w.db, err = sql.Open("sqlite3", (&url.URL{Scheme: "file", Path: w.path}).String()+"?_busy_timeout=5000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	if w.root, err = appletest.New(start); err != nil {
		t.Fatal(err)
	}
	if w.apple, err = w.root.Leaf(); err != nil {
		t.Fatal(err)
	}
	anchor, err := provisioning.TestAnchor(w.root.Root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	w.hands = &hands{Gate: signer.New(w.token.Token), before: map[string]func() error{}, after: map[string]func() error{}}
	w.rec = audit.New(w.store, w.clock.Now)
	cfg := provisioning.Config{
		Chain:     provisioning.NewChainPolicy(anchor, func() time.Time { return start }),
		Recorder:  w.rec,
		Gate:      w.hands,
		Cards:     w.store,
		Decisions: w.store,
		Verified:  w.store,
		Rules:     rules(),
		Tokens:    w.store,
		Flags:     w.store,
		// What most tests are about is not enablement; those that are set it.
		EnabledUnlessSet: true,
		Now:              w.clock.Now,
		Lease:            lease,
		TAV:              provisioning.TAVConfig{Version: signer.TAVv3, Validity: 30 * time.Minute},
	}
	for _, c := range change {
		c(&cfg)
	}
	if w.svc, err = provisioning.New(cfg); err != nil {
		t.Fatal(err)
	}
	for _, d := range demos {
		if _, err := w.svc.StoreCard(context.Background(), owner, d.id, w.card(d)); err != nil {
			t.Fatal(err)
		}
	}
	w.from = uint64(len(w.entries()))
	return w
}

func (w *world) card(d demo) provisioning.Card {
	w.Helper()
	pan, err := secret.ParsePAN([]byte(d.pan))
	if err != nil {
		w.Fatal(err)
	}
	return provisioning.Card{PAN: pan, Expiration: secret.NewText(d.expiration), Name: secret.NewText(d.name), Product: "mastercard"}
}

// nonceSignature is what the secure element signed.
var nonceSignature = append([]byte{0x40}, bytes.Repeat([]byte{0xc3, 0x17}, 40)...)

// request asks for a card under a nonce, as an app would.
func (w *world) request(id, nonce string) provisioning.SignCard {
	return provisioning.SignCard{
		ExternalCardID: id, Certificates: w.apple.Chain(), Nonce: nonce,
		NonceSignature: hex.EncodeToString(nonceSignature), WalletType: provisioning.ApplePay,
	}
}

func (w *world) sign(req provisioning.SignCard) (provisioning.SignedCard, error) {
	return w.svc.SignCard(context.Background(), owner, req)
}

// mustSign signs and requires that Apple can open it.
func (w *world) mustSign(req provisioning.SignCard) provisioning.SignedCard {
	w.Helper()
	out, err := w.sign(req)
	if err != nil {
		w.Fatal(err)
	}
	w.open(out)
	return out
}

// open opens the payload as Apple would.
func (w *world) open(out provisioning.SignedCard) []byte {
	w.Helper()
	payload, err := w.apple.Open(out.EphemeralPublicKey, out.EncryptedData)
	if err != nil {
		w.Fatal(err)
	}
	return payload
}

func (w *world) entries() []audit.Entry {
	w.Helper()
	all, err := w.store.Read(context.Background(), w.from, 1<<20)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// chance is what stands in an entry by chance: digests and ids, in which any digits may be.
var chance = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// log is what has been recorded since the set-up: kind, outcome and reason.
func (w *world) log() []string {
	w.Helper()
	var lines []string
	for _, e := range w.entries() {
		var body struct{ Operation, Outcome, Reason string }
		if err := json.Unmarshal(e.Body, &body); err != nil {
			w.Fatal(err)
		}
		line := string(e.Kind)
		for _, part := range []string{strings.TrimPrefix(body.Operation, "push-provisioning."), body.Outcome, body.Reason} {
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
	if diff := cmp.Diff(want, w.log()); diff != "" {
		w.Errorf("the log: %s", diff)
	}
}

// nonces is the state and the fence of every nonce that was ever claimed.
func (w *world) nonces() []string {
	w.Helper()
	rows, err := w.db.Query("SELECT state || ' ' || fence FROM apple_nonces ORDER BY 1")
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

func (w *world) requireNonces(want ...string) {
	w.Helper()
	if got := w.nonces(); !slices.Equal(got, want) {
		w.Errorf("nonces are %q, want %q", got, want)
	}
}

func (w *world) execute(text string) {
	w.Helper()
	if _, err := w.db.Exec(text); err != nil {
		w.Fatal(err)
	}
}

// failEntries makes the database refuse entries of a kind, until mend is called.
func (w *world) failEntries(kind audit.Kind) (mend func()) {
	w.Helper()
	w.execute(`CREATE TRIGGER fault BEFORE INSERT ON audit_entries WHEN NEW.kind = '` + string(kind) + `'
		BEGIN SELECT RAISE(ABORT, 'text of the driver'); END`)
	return func() { w.execute("DROP TRIGGER fault") }
}

// requireNothing requires that nothing was released.
func requireNothing(t testing.TB, out provisioning.SignedCard) {
	t.Helper()
	if out.ActivationData != nil || out.EncryptedData != nil || out.EphemeralPublicKey != nil {
		t.Errorf("released %+v", out)
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

// hands are on the gate: a test may do something before or after an operation, and let
// it fail.
type hands struct {
	provisioning.Gate
	before, after map[string]func() error
}

func around[T any](h *hands, op string, do func() (T, error)) (T, error) {
	var none T
	if f := h.before[op]; f != nil {
		if err := f(); err != nil {
			return none, err
		}
	}
	out, err := do()
	if f := h.after[op]; f != nil && err == nil {
		if err := f(); err != nil {
			return none, err
		}
	}
	return out, err
}

func (h *hands) SealECCv2(ctx context.Context, t *record.Ticket, to *ecdh.PublicKey, payload []byte) (signer.SealedECCv2, error) {
	return around(h, "SealECCv2", func() (signer.SealedECCv2, error) { return h.Gate.SealECCv2(ctx, t, to, payload) })
}

func (h *hands) SignTAV(ctx context.Context, t *record.Ticket, v signer.TAV) (record.Held[[]byte], error) {
	return around(h, "SignTAV", func() (record.Held[[]byte], error) { return h.Gate.SignTAV(ctx, t, v) })
}

func (h *hands) SealVault(ctx context.Context, t *record.Ticket, tenant, id string, data []byte) (signer.VaultRow, error) {
	return around(h, "SealVault", func() (signer.VaultRow, error) { return h.Gate.SealVault(ctx, t, tenant, id, data) })
}

func (h *hands) OpenVault(ctx context.Context, t *record.Ticket, tenant, id string, row signer.VaultRow) ([]byte, error) {
	return around(h, "OpenVault", func() ([]byte, error) { return h.Gate.OpenVault(ctx, t, tenant, id, row) })
}

func (h *hands) CardIndex(ctx context.Context, t *record.Ticket, tenant, externalCardID string) ([]byte, error) {
	return around(h, "CardIndex", func() ([]byte, error) { return h.Gate.CardIndex(ctx, t, tenant, externalCardID) })
}

// files are those of a pattern, one after the other: the database's, among others.
func (w *world) files(pattern string) []byte {
	w.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		w.Fatal(err)
	}
	var all []byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}
