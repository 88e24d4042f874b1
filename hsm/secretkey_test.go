package hsm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

func hostGCM(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// The token's AES-GCM and HMAC are those of the standard library, for the same key.
func TestSecretKeysComputeWhatTheStandardLibraryDoes(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		_, vault, index := stock(t, on)
		tok := open(t, on, ringOf(vault, index))
		ctx, iv := context.Background(), []byte("unique nonce")
		for _, tc := range []struct {
			name      string
			aad, text []byte
		}{
			{"a card", []byte("tenant|7"), []byte(`{"pan":"…"}`)},
			{"no associated data", nil, []byte("x")},
			{"no text", []byte("tenant|7"), nil},
			{"neither", nil, nil},
			{"a whole block", []byte("a"), make([]byte, 16)},
			{"64 KiB", []byte("a"), bytes.Repeat([]byte("0123456789abcdef"), 4096)},
		} {
			t.Run(tc.name, func(t *testing.T) {
				sealed, err := tok.EncryptGCM(ctx, vault.Name, iv, tc.aad, tc.text)
				if err != nil {
					t.Fatal(err)
				}
				if want := hostGCM(t, fill(1)).Seal(nil, iv, tc.text, tc.aad); !bytes.Equal(sealed, want) {
					t.Errorf("sealed is %x\nwant      %x", sealed, want)
				}
				clear, err := tok.DecryptGCM(ctx, vault.Name, iv, tc.aad, sealed)
				if err != nil || !bytes.Equal(clear, tc.text) {
					t.Errorf("opened %q, %v", clear, err)
				}
				mac, err := tok.HMAC(ctx, index.Name, tc.text)
				if err != nil {
					t.Fatal(err)
				}
				h := hmac.New(sha256.New, fill(2))
				h.Write(tc.text)
				if want := h.Sum(nil); !bytes.Equal(mac, want) {
					t.Errorf("HMAC is %x, want %x", mac, want)
				}
			})
		}
	})
}

// A row that was changed does not open, and the key and the token serve on.
func TestChangedCiphertextDoesNotOpen(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		_, vault, _ := stock(t, on)
		tok := open(t, on, ringOf(vault))
		ctx, iv, aad := context.Background(), []byte("unique nonce"), []byte("tenant|7")
		sealed, err := tok.EncryptGCM(ctx, vault.Name, iv, aad, []byte("card"))
		if err != nil {
			t.Fatal(err)
		}
		flipped := func(b []byte, i int) []byte { c := bytes.Clone(b); c[i] ^= 1; return c }
		for _, tc := range []struct {
			name            string
			iv, aad, sealed []byte
		}{
			{"first byte", iv, aad, flipped(sealed, 0)},
			{"tag", iv, aad, flipped(sealed, len(sealed)-1)},
			{"truncated", iv, aad, sealed[:len(sealed)-1]},
			{"shorter than a tag", iv, aad, sealed[:8]},
			{"empty", iv, aad, nil},
			{"longer", iv, aad, append(bytes.Clone(sealed), 0)},
			{"other IV", flipped(iv, 3), aad, sealed},
			{"other row", iv, []byte("tenant|8"), sealed},
			{"no associated data", iv, nil, sealed},
		} {
			t.Run(tc.name, func(t *testing.T) {
				clear, err := tok.DecryptGCM(ctx, vault.Name, tc.iv, tc.aad, tc.sealed)
				if err == nil || clear != nil {
					t.Fatalf("opened %q, %v", clear, err)
				}
				if clear, err := tok.DecryptGCM(ctx, vault.Name, iv, aad, sealed); err != nil || string(clear) != "card" {
					t.Fatalf("afterwards: opened %q, %v", clear, err)
				}
			})
		}
	})
}

// An IV of another length is another construction (SP 800-38D, 7.1): refused, not
// passed on to a module that may have its own idea of it.
func TestIVHasTwelveBytes(t *testing.T) {
	on := softhsm.New(t)
	_, vault, _ := stock(t, on)
	tok := open(t, on, ringOf(vault))
	for _, n := range []int{0, 1, 8, 11, 13, 16} {
		if out, err := tok.EncryptGCM(context.Background(), vault.Name, make([]byte, n), nil, []byte("card")); err == nil {
			t.Errorf("sealed %x under an IV of %d bytes", out, n)
		}
		if _, err := tok.DecryptGCM(context.Background(), vault.Name, make([]byte, n), nil, make([]byte, 32)); err == nil {
			t.Errorf("opened under an IV of %d bytes", n)
		}
	}
}

// A module that opens no read-only sessions is worked with in read-write ones, of which no
// more are opened.
func TestModuleWithoutReadOnlySessionsServes(t *testing.T) {
	on := softhsm.New(t)
	_, vault, _ := stock(t, on)
	shim(t, on)
	misbehave(t, on, "writers")
	tok := open(t, on, ringOf(vault))
	for range 3 {
		requireSeals(t, tok, vault.Name)
	}
	if _, most := sessionsOf(t, on); most > tok.Sessions() {
		t.Errorf("%d sessions at most, want %d", most, tok.Sessions())
	}
}
