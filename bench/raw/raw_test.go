package raw_test

import (
	"strings"
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
	load := raw.Load{Work: raw.P256, Keys: raw.Keys{P256: id}, Threads: 3, For: 50 * time.Millisecond}
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
	if _, err := token.Run(raw.Load{Work: raw.RSA, Threads: 1, For: time.Minute}); err == nil || !strings.Contains(err.Error(), "C_SignInit") {
		t.Errorf("RSA without a key: %v", err)
	}
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
