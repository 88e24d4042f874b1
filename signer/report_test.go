package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/signer"
)

// onlyKeys leaves the key of one purpose.
func onlyKeys(keep ...hsm.Purpose) hsmtest.Option {
	return func([]hsm.NewKey) (keys []hsm.NewKey) {
		for _, p := range keep {
			keys = append(keys, hsm.NewKey{Name: string(p), Purpose: p})
		}
		return keys
	}
}

// A statement is a note that a public verifier of notes takes, under the report's key alone.
func TestStatementIsASignedNote(t *testing.T) {
	token := hsmtest.New(t, onlyKeys(hsm.AuditReport, hsm.AuditCheckpoint))
	gate := signer.New(token.Token)
	signed, spki, err := gate.SignStatement(context.Background(), "mint/test", "first\nsecond\n")
	if err != nil {
		t.Fatal(err)
	}
	key, err := audit.NewCheckpointKey("mint/test", spki)
	if err != nil {
		t.Fatal(err)
	}
	got, err := note.Open([]byte(signed), note.VerifierList(key))
	if err != nil || got.Text != "first\nsecond\n" {
		t.Errorf("opened %+v, %v", got, err)
	}
	if pub, err := token.Public("audit-report"); err != nil || !equalSPKI(t, pub, spki) {
		t.Errorf("it is signed by another key, %v", err)
	}
	for _, text := range []string{"", "no end", "two\n\nparts\n", "tab\tbed\n"} {
		if _, _, err := gate.SignStatement(context.Background(), "mint/test", text); err == nil {
			t.Errorf("signed %q", text)
		}
	}
}

func equalSPKI(t *testing.T, pub crypto.PublicKey, spki []byte) bool {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(der, spki)
}
