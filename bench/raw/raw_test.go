package raw_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/bench/raw"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/softhsm"
)

func open(t *testing.T, on *softhsm.Token, label string) (*raw.Token, error) {
	t.Helper()
	pin := secret.NewPIN([]byte(on.PIN()))
	defer pin.Wipe()
	return raw.Open(on.Module, label, pin)
}

func TestLoopOnARealToken(t *testing.T) {
	on := softhsm.New(t)
	if _, err := open(t, on, "another"); err == nil || !strings.Contains(err.Error(), "no token with this label") {
		t.Errorf("a token that is not there: %v", err)
	}
	token, err := open(t, on, on.Label) // the module is free again
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}()
	id := []byte("bench-1")
	load := raw.Load{Task: raw.Task{Work: raw.P256, Keys: raw.Keys{P256: id}}, Threads: 3, For: 50 * time.Millisecond}
	if _, err := token.Run(load); err == nil || !strings.Contains(err.Error(), "P-256 key") {
		t.Errorf("a key that is not there: %v", err)
	}
	if err := token.Generate("mintmark-bench-1", id); err != nil {
		t.Fatal(err)
	}
	for range 2 { // sessions are given back
		r, err := token.Run(load)
		if err != nil {
			t.Fatal(err)
		}
		if r.Operations == 0 || r.CPU <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Took < load.For {
			t.Errorf("%+v", r)
		}
	}
	if _, err := token.Run(raw.Load{Task: raw.Task{Work: raw.RSA}, Threads: 1, For: time.Minute}); err == nil || !strings.Contains(err.Error(), "C_SignInit") {
		t.Errorf("RSA without a key: %v", err)
	}
}

// Sessions are used by many at once, each by one at a time, and what they sign is what they
// were given.
func TestSessionsSignWhatTheyAreGiven(t *testing.T) {
	on := softhsm.New(t)
	id := []byte("bench-1")
	public := imported(t, on, id)
	token, err := open(t, on, on.Label)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = token.Close() }()
	if _, err := token.Sessions(raw.Task{Work: "sing", Keys: raw.Keys{P256: id}}, 1); err == nil {
		t.Error("there is a work that nobody knows")
	}
	sessions, err := token.Sessions(raw.Task{Work: raw.P256, Keys: raw.Keys{P256: id}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range byte(8) {
		all.Go(func() {
			digest := sha256.Sum256([]byte{n})
			sig, err := sessions.Do(digest)
			if err != nil || len(sig) != 64 {
				t.Errorf("%d bytes, error %v", len(sig), err)
				return
			}
			if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
				t.Error("a signature is not that of its digest")
			}
		})
	}
	all.Wait()
}

// imported puts a new P-256 key pair into a token.
func imported(t *testing.T, on *softhsm.Token, id []byte) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("softhsm2-util", "--module", on.Module, "--import", file, "--token", on.Label, "--pin", on.PIN(), "--label", "mintmark-bench-1", "--id", hex.EncodeToString(id))
	cmd.Env = append(os.Environ(), on.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &key.PublicKey
}

// What is not labelled as one's own stays.
func TestDestroyTakesNoOtherKeys(t *testing.T) {
	on := softhsm.New(t)
	token, err := open(t, on, on.Label)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = token.Close() }()
	if err := token.Generate("production", []byte("id")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		id, prefix string
		destroyed  int
		refused    bool
	}{
		{"id", "mintmark-bench-", 0, true},
		{"", "production", 0, true},
		{"id", "", 0, true},
		{"unknown", "production", 0, false},
		{"id", "product", 2, false},
		{"id", "product", 0, false},
	} {
		n, err := token.Destroy([]byte(tc.id), tc.prefix)
		if n != tc.destroyed || (err != nil) != tc.refused {
			t.Errorf("CKA_ID %q, prefix %q: %d destroyed, %v", tc.id, tc.prefix, n, err)
		}
	}
}
