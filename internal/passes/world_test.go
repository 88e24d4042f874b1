package passes_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
	"github.com/mintmark/mintmark/passkit/webservice"
	"github.com/mintmark/mintmark/signer"
)

// start is when every test begins.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// counts is an Observer.
type counts struct {
	mu     sync.Mutex // guards all
	kept   int
	signed int
	pushed map[string]int
	lines  int
	stops  []bool
}

func (c *counts) locked(do func()) { c.mu.Lock(); defer c.mu.Unlock(); do() }

func (c *counts) PassServed(kept bool) {
	c.locked(func() {
		if kept {
			c.kept++
		} else {
			c.signed++
		}
	})
}
func (c *counts) PassPush(outcome string) { c.locked(func() { c.pushed[outcome]++ }) }
func (c *counts) PassPushStopped(_ string, stopped bool) {
	c.locked(func() { c.stops = append(c.stops, stopped) })
}
func (c *counts) PassDeviceLog(string) { c.locked(func() { c.lines++ }) }

// The pass types: one with an RSA key of the tenant shop, one with a P-256 key of shop, and
// one of another tenant.
var (
	rsaType   = passes.TypeID{Tenant: "shop", Type: "pass.test.rsa"}
	ecType    = passes.TypeID{Tenant: "shop", Type: "pass.test.ec"}
	otherType = passes.TypeID{Tenant: "rail", Type: "pass.test.rail"}
)

// A world is the service with all that it stands on: a real token, a real database, a
// simulated Apple, and a clock.
type world struct {
	testing.TB
	token     *hsmtest.Token
	store     *store.Store
	db        *sql.DB // a connection of the test's own
	authority *passtest.Authority
	clock     *clocktest.Clock
	counts    *counts
	settings  passes.Settings
	svc       *passes.Service
	ctx       context.Context
}

// apple is the simulated Apple of all worlds.
var apple = sync.OnceValues(func() (*passtest.Authority, error) { return passtest.New(start) })

var issuer = passes.Caller{Issuer: "https://shop.example", Subject: "backend", RequestID: "request-1"}

func newWorld(t testing.TB, change ...func(*passes.Config)) *world {
	t.Helper()
	w := &world{TB: t, clock: clocktest.New(start), counts: &counts{pushed: map[string]int{}}, ctx: context.Background()}
	options := []hsmtest.Option{}
	for _, p := range hsm.Purposes() {
		if p != hsm.Pass {
			options = append(options, hsmtest.Without(p))
		}
	}
	w.token = hsmtest.New(t, append(options, hsmtest.With(hsm.NewKey{Name: "pass-ec", Purpose: hsm.Pass, Algorithm: hsm.P256}),
		hsmtest.With(hsm.NewKey{Name: "pass-rail", Purpose: hsm.Pass, Algorithm: hsm.P256}))...)
	path := filepath.Join(t.TempDir(), "mintmark.db")
	var err error
	if w.store, err = store.Open(w.ctx, path, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	if w.db, err = sql.Open("sqlite3", (&url.URL{Scheme: "file", Path: path}).String()+"?_busy_timeout=5000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	if w.authority, err = apple(); err != nil {
		t.Fatal(err)
	}
	w.settings = passes.Settings{PublicURL: "https://passes.example", Push: true, Types: map[passes.TypeID]passes.TypeSetting{
		rsaType: w.typeSetting("pass", rsaType), ecType: w.typeSetting("pass-ec", ecType), otherType: w.typeSetting("pass-rail", otherType),
	}}
	w.serve(change...)
	return w
}

// serve makes the service, anew if there was one: its caches are empty then.
func (w *world) serve(change ...func(*passes.Config)) {
	w.Helper()
	cfg := passes.Config{
		Recorder: audit.New(w.store, w.clock.Now), Gate: signer.New(w.token.Token), Rows: w.store, Devices: w.store,
		Observer: w.counts, Now: w.clock.Now, BundleCache: 1 << 20, FileCache: 1 << 20, Lease: time.Minute,
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.svc, err = passes.New(cfg, w.settings); err != nil {
		w.Fatal(err)
	}
}

func (w *world) typeSetting(key string, id passes.TypeID) passes.TypeSetting {
	w.Helper()
	pub, err := w.token.Public(key)
	if err != nil {
		w.Fatal(err)
	}
	leaf, err := w.authority.Leaf(pub, passtest.For(id.Type, "TEAM123456"))
	if err != nil {
		w.Fatal(err)
	}
	return passes.TypeSetting{Key: key, Chain: []*x509.Certificate{leaf, w.authority.Intermediate}}
}

// setUp uploads images and gives them to a type.
func (w *world) setUp(id passes.TypeID) {
	w.Helper()
	files := passes.Files{}
	for name, size := range map[string]int{"icon.png": 29, "icon@2x.png": 58, "icon@3x.png": 87} {
		png, err := passtest.PNG(size, size)
		if err == nil {
			files[name], err = w.svc.PutFile(w.ctx, issuer, id.Tenant, png)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	template := jsontext.Value(`{"organizationName":"Corner Shop","description":"Loyalty card","backgroundColor":"rgb(20, 60, 120)"}`)
	if _, _, err := w.svc.PutType(w.ctx, issuer, passes.TypeRow{TypeID: id, Template: template, Files: files}, passes.Anything); err != nil {
		w.Fatal(err)
	}
}

// card is a document with a balance.
func card(balance int) passes.Document {
	return passes.Document{Pass: jsontext.Value(fmt.Sprintf(`{"storeCard":{"primaryFields":[{"key":"balance","label":"POINTS","value":%d}]}}`, balance))}
}

func (w *world) put(id passes.ID, doc passes.Document) passes.Stored {
	w.Helper()
	p, err := w.svc.Put(w.ctx, issuer, id, doc, passes.Anything)
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func pass(id passes.TypeID, serial string) passes.ID { return passes.ID{TypeID: id, Serial: serial} }

func shows(p passes.Stored) webservice.Credentials {
	return webservice.Credentials{Kind: webservice.Apple, Token: p.Token}
}

// pushToken is one of Apple's, different for each name.
func pushToken(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (w *world) register(p passes.Stored, device, token string) {
	w.Helper()
	if _, err := w.svc.Register(w.ctx, p.ID, device, shows(p), pushToken(token)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) updated(id passes.TypeID, device, tag string) passes.Updates {
	w.Helper()
	u, err := w.svc.Updated(w.ctx, id, device, tag)
	if err != nil {
		w.Fatal(err)
	}
	return u
}

func (w *world) fetch(p passes.Stored, since time.Time) (passes.Pkpass, error) {
	return w.svc.Fetch(w.ctx, p.ID, p.Token, "request-2", since)
}

// opened is a fetched pass, verified.
func (w *world) opened(p passes.Pkpass) *passkit.Pass {
	w.Helper()
	b, err := passkit.Open(p.Content)
	if err != nil {
		w.Fatal(err)
	}
	if r := passkit.Verify(b, passkit.VerifyOptions{Roots: w.authority.Roots(), Now: w.clock.Now()}); !r.OK() {
		w.Fatalf("the pass does not verify: %v", r.Results)
	}
	out, _, err := b.Pass()
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// count asks the database for one number.
func (w *world) count(query string, args ...any) (n int) {
	w.Helper()
	if err := w.db.QueryRow(query, args...).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// pemOf is a chain in PEM.
func pemOf(chain []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}
