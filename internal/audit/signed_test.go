package audit_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

// softSigner signs checkpoints with a key of its own. While err is set it does not.
type softSigner struct {
	key  *ecdsa.PrivateKey
	spki []byte

	mu  sync.Mutex
	err error
}

func newSigner(t testing.TB) *softSigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &softSigner{key: key, spki: spki}
}

func (s *softSigner) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *softSigner) SignCheckpoint(_ context.Context, text []byte) ([]byte, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, nil, s.err
	}
	digest := sha256.Sum256(text)
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	return sig, s.spki, err
}

// scene is a log with its checkpointer over a real database.
type scene struct {
	testing.TB
	path   string
	store  *store.Store
	log    *audit.Log
	sign   *softSigner
	points *audit.Checkpointer
	cfg    audit.CheckpointConfig
	nonces int
	clock  *clocktest.Clock
}

const origin = "bank.example/mintmark/test"

func newScene(t testing.TB, change ...func(*audit.CheckpointConfig)) *scene {
	t.Helper()
	s := &scene{TB: t, path: filepath.Join(t.TempDir(), "mintmark.db"), sign: newSigner(t), clock: clocktest.New(kept)}
	s.open(change...)
	t.Cleanup(func() { _ = s.store.Close() })
	return s
}

// open opens the database as a process does when it starts.
func (s *scene) open(change ...func(*audit.CheckpointConfig)) {
	s.Helper()
	if err := s.reopen(change...); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) reopen(change ...func(*audit.CheckpointConfig)) error {
	s.Helper()
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.Fatal(err)
		}
	}
	var err error
	if s.store, err = store.Open(context.Background(), s.path, "test"); err != nil {
		s.Fatal(err)
	}
	s.log = audit.New(s.store, s.clock.Now)
	s.cfg = audit.CheckpointConfig{
		Origin: origin, Signer: s.sign, Store: s.store, Every: time.Hour, Log: slog.New(slog.DiscardHandler),
		Limits: audit.Limits{Entries: 20, Age: time.Minute},
	}
	for _, c := range change {
		c(&s.cfg)
	}
	s.points = audit.NewCheckpointer(s.log, s.cfg)
	return s.points.Start(context.Background())
}

// card seals a card, as far as the log sees it: two entries and a used nonce.
func (s *scene) card() error {
	ctx := context.Background()
	s.nonces++
	now := s.clock.Now()
	claim := &provisioning.NonceClaim{Tenant: "bank", ID: sha256.Sum256(fmt.Append(nil, s.nonces)), Now: now, Until: now.Add(time.Minute)}
	in := full
	in.Refs = map[string]string{"nonceClaim": fmt.Sprintf("%x", claim.ID)}
	ticket, err := s.log.Begin(ctx, in, claim)
	if err != nil {
		return err
	}
	held := record.Hold(ticket, "encryptedData", "x", fmt.Append(nil, "output ", s.nonces))
	_, err = s.log.Conclude(ctx, ticket, record.Done(held.Digest()), provisioning.NonceEnd{Claim: *claim, Used: true})
	return err
}

// cards seals n cards and makes a checkpoint.
func (s *scene) cards(n int) {
	s.Helper()
	for range n {
		if err := s.card(); err != nil {
			s.Fatal(err)
		}
	}
	s.step()
}

func (s *scene) step() { audit.Step(s.points) }

// storeCard stores a card.
func (s *scene) storeCard(id string) {
	s.Helper()
	ctx := context.Background()
	ticket, err := s.log.Begin(ctx, record.Intent{Operation: record.StoreCard, Tenant: "bank", Refs: map[string]string{"card": id}})
	if err == nil {
		_, err = s.log.Conclude(ctx, ticket, record.Done(), provisioning.CardRow{
			Owner: provisioning.Owner{Tenant: "bank"}, ID: id, Lookup: []byte(id), Key: "k", IV: []byte("iv"), Sealed: []byte("s"), Created: s.clock.Now(),
		})
	}
	if err != nil {
		s.Fatal(err)
	}
}

// beside changes the database as somebody does who can write to it.
func (s *scene) beside(texts ...string) {
	s.Helper()
	db, err := sql.Open("sqlite3", s.path+"?_busy_timeout=5000")
	if err != nil {
		s.Fatal(err)
	}
	for _, text := range texts {
		if _, err := db.Exec(text); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
	if err := db.Close(); err != nil {
		s.Fatal(err)
	}
}

// verify verifies the database with its key and one checkpoint of each anchor.
func (s *scene) verify(anchored map[string]audit.Checkpoint) audit.Report {
	s.Helper()
	all := map[string][]audit.Checkpoint{}
	for name, c := range anchored {
		all[name] = []audit.Checkpoint{c}
	}
	return s.verifyAll(all)
}

// verifyAll verifies it with all that anchors kept.
func (s *scene) verifyAll(anchored map[string][]audit.Checkpoint) audit.Report {
	s.Helper()
	report, err := audit.Verify(context.Background(), audit.Verification{
		Source: s.store, Rows: s.store, Origin: origin, Keys: [][]byte{s.sign.spki}, Anchored: anchored,
	})
	if err != nil {
		s.Fatal(err)
	}
	return report
}

func (s *scene) requireWhole() audit.Report {
	s.Helper()
	report := s.verify(nil)
	if len(report.Faults) != 0 {
		s.Fatalf("faults: %v", report.Faults)
	}
	return report
}

func (s *scene) latest() audit.Checkpoint {
	s.Helper()
	c, ok := s.points.Latest()
	if !ok {
		s.Fatal("no checkpoint")
	}
	return c
}

// requireHeld requires that nothing can be begun, with an error that says when to come
// back and need not be logged each time.
func (s *scene) requireHeld(err error) {
	s.Helper()
	var later interface{ RetryAfter() time.Duration }
	var known interface{ Known() bool }
	if !errors.As(err, &later) || later.RetryAfter() <= 0 || !errors.As(err, &known) || !known.Known() {
		s.Errorf("error %v, want one that says when to come back", err)
	}
}
