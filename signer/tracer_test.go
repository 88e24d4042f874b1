//go:build trace

package signer_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// What a trace shows leads from step to step to what Apple opens.
func TestTraceIsWhatAppleRecomputes(t *testing.T) {
	apple, payload := aKey(t), []byte(`{"version":"1"}`)
	tk := ticket(record.SignCard)
	sealed, held, err := signer.Tracer{}.SealTraced(tk, apple.PublicKey(), payload)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := held.Release(receipt(tk, held.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	if got := release(t, tk, sealed.EncryptedData); !bytes.Equal(got, trace.EncryptedData) {
		t.Errorf("sealed %x, traced %x", got, trace.EncryptedData)
	}
	opened, err := appletest.OpenECDH(apple, trace.EphemeralPublicKey, trace.EncryptedData)
	if err != nil || !bytes.Equal(opened, payload) || !bytes.Equal(trace.Payload, payload) {
		t.Errorf("opened %q, %v", opened, err)
	}
	if key := sha256.Sum256(trace.KDFInput); !bytes.Equal(key[:], trace.AESKey) {
		t.Errorf("the key is %x, of the input %x", trace.AESKey, key)
	}
	if _, _, err := (signer.Tracer{}).SealTraced(tk, apple.PublicKey(), payload); err == nil {
		t.Error("sealed twice under one ticket")
	}
}
