package connector_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/connector"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// start is when every test begins.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A network is whoever is at the other end: a simulator that honours idempotency keys, behind
// a line that does what a test wants.
type network struct {
	*connector.Simulator
	mu    sync.Mutex // guards what follows
	line  func(call int, post func() connector.Answer) (connector.Answer, error)
	calls []string          // the requests, as they came
	acted map[string]int    // how often it acted, by key
	told  []connector.Shown // what it was told
}

func (n *network) Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (connector.Answer, error) {
	n.mu.Lock()
	n.calls = append(n.calls, string(body))
	call, line := len(n.calls), n.line
	n.mu.Unlock()
	post := func() connector.Answer {
		a, err := n.Simulator.Post(ctx, address, contentType, body, header)
		if err != nil {
			panic(err)
		}
		return a
	}
	if line == nil {
		return post(), nil
	}
	return line(call, post)
}

func (n *network) set(line func(int, func() connector.Answer) (connector.Answer, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line = line
}

// world is a connector with all that it stands on.
type world struct {
	testing.TB
	clock   *clocktest.Clock
	path    string
	store   *store.Store
	log     *audit.Log
	gate    *signer.Gate
	token   *hsmtest.Token
	network *network
}

var errDown = errors.New("connection refused")

func down(int, func() connector.Answer) (connector.Answer, error) { return connector.Answer{}, errDown }

// newWorld makes a world of its own on a shared token.
func newWorld(t testing.TB, token *hsmtest.Token) *world {
	t.Helper()
	w := &world{TB: t, clock: clocktest.New(start), path: filepath.Join(t.TempDir(), "mintmark.db"), token: token, gate: signer.New(token.Token)}
	w.network = &network{acted: map[string]int{}}
	simulator, err := connector.NewSimulator(w.publicKeys, func(s connector.Shown) error {
		w.network.mu.Lock()
		defer w.network.mu.Unlock()
		w.network.acted[s.ID]++
		w.network.told = append(w.network.told, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.network.Simulator = simulator
	w.restart()
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

// restart opens the database anew, as a process after a crash does.
func (w *world) restart() {
	w.Helper()
	if w.store != nil {
		if err := w.store.Close(); err != nil {
			w.Fatal(err)
		}
	}
	var err error
	if w.store, err = store.Open(context.Background(), w.path, "test"); err != nil {
		w.Fatal(err)
	}
	w.log = audit.New(w.store, w.clock.Now)
}

func (w *world) publicKeys() map[string]crypto.PublicKey {
	pub, err := w.token.Public(string(hsm.ConnectorJWS))
	if err != nil {
		w.Fatal(err)
	}
	kid, err := signer.KeyID(pub)
	if err != nil {
		w.Fatal(err)
	}
	return map[string]crypto.PublicKey{kid: pub}
}

type uncounted struct{}

func (uncounted) NetworkCall(_, _ string) {}

// connector makes one, with changes.
func (w *world) connector(change ...func(*connector.Config)) *connector.Connector {
	w.Helper()
	cfg := connector.Config{
		URL: "https://network.example/mintmark", Issuer: "bank.example", Audience: "network.example", Keys: w.network.Keys(),
		Recorder: w.log, Gate: w.gate, Outbox: w.store, Post: w.network, Observer: uncounted{}, Log: slog.New(slog.DiscardHandler), Now: w.clock.Now,
		Retry: connector.Retry{First: time.Millisecond, Longest: 20 * time.Second, Look: time.Millisecond, Lease: time.Minute},
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := connector.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// put puts notices into the outbox as an activation does, sealed by the token and with a record.
func (w *world) put(n int, until time.Time) (ids []string) {
	w.Helper()
	for range n {
		id := fmt.Sprintf("notice-%d", len(w.ids())+len(ids))
		t, err := w.log.Open(record.Intent{Operation: record.ActivateToken, Tenant: "bank"})
		if err != nil {
			w.Fatal(err)
		}
		body, err := w.gate.SealNotice(context.Background(), t, "bank", id, []byte(`{"say":"`+id+`"}`))
		if err != nil {
			w.Fatal(err)
		}
		notice := provisioning.Notice{ID: id, Tenant: "bank", Kind: provisioning.ActivationNotice, Body: body, Created: w.clock.Now(), Until: until}
		if _, err := w.log.Conclude(context.Background(), t, record.Done(), notice); err != nil {
			w.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func (w *world) ids() []string {
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	return slices.Sorted(maps.Keys(w.network.acted))
}

// round has a connector deliver what is due, until nothing is.
func (w *world) round(c *connector.Connector) {
	w.Helper()
	for more := true; more; {
		var err error
		if more, err = c.Round(context.Background()); err != nil {
			w.Fatal(err)
		}
	}
}

// requireOnce requires that each notice was acted on once, and no other.
func (w *world) requireOnce(ids []string) {
	w.Helper()
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	want := map[string]int{}
	for _, id := range ids {
		want[id] = 1
	}
	if diff := cmp.Diff(want, w.network.acted); diff != "" {
		w.Errorf("acted on (-want +got):\n%s", diff)
	}
}

// requireEmpty requires that nothing waits any more, however late it is.
func (w *world) requireEmpty() {
	w.Helper()
	later := w.clock.Now().Add(1000 * time.Hour)
	if left, err := w.store.LeaseNotices(context.Background(), later, later.Add(time.Minute), 9); err != nil || len(left) != 0 {
		w.Errorf("left are %d notices, %v", len(left), err)
	}
}
