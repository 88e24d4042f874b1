package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Pin is what a key must answer to before it is used: scheme, colon, value.
//
//	spki-sha256:<hex>      SHA-256 of the public key's SubjectPublicKeyInfo (DER)
//	aes-gcm:<base64>       a sample (12-byte IV, ciphertext, tag) that the key must open;
//	                       plaintext pinText, associated data name and CKA_ID
//	hmac-sha256:<hex>      the HMAC of pinText, '|' and the key's name
//	tdea-kcv:<hex>         the three bytes of the key check value that the network gives
//	                       with the key (the start of the encryption of eight zeroes), then
//	                       the SHA-256 of a fixed text's encryption
//
// Secret keys are pinned by behaviour. CKA_CHECK_VALUE would be simpler and is unsafe:
// for AES it is the start of E_K(0), and E_K(0) is GCM's hash key.
type Pin string

const (
	pinSPKI = "spki-sha256"
	pinGCM  = "aes-gcm"
	pinHMAC = "hmac-sha256"
	pinTDEA = "tdea-kcv"

	// pinText begins what a pin is computed over. No business input has this prefix.
	pinText = "mintmark-pin-v1"
)

// scheme is the pin scheme of an algorithm.
func (a Algorithm) pinScheme() string {
	switch {
	case a.Public():
		return pinSPKI
	case a == AES256:
		return pinGCM
	case a == TDEA:
		return pinTDEA
	default:
		return pinHMAC
	}
}

func (p Pin) check(a Algorithm) error {
	scheme, value, ok := strings.Cut(string(p), ":")
	if !ok || scheme != a.pinScheme() {
		return fmt.Errorf("a pin of %s begins with %q", a, a.pinScheme()+":")
	}
	var size int
	want := sha256.Size
	if scheme == pinGCM {
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return fmt.Errorf("the value is not Base64")
		}
		size, want = len(b), gcmIV+len(pinText)+gcmTag
	} else {
		b, err := hex.DecodeString(value)
		if err != nil {
			return fmt.Errorf("the value is not hex")
		}
		size = len(b)
		if scheme == pinTDEA {
			want += kcvSize
		}
	}
	if size != want {
		return fmt.Errorf("the value has %d bytes instead of %d", size, want)
	}
	return nil
}

// spkiPin is the pin of a public key.
func spkiPin(pub crypto.PublicKey) (Pin, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return Pin(pinSPKI + ":" + hex.EncodeToString(sum[:])), nil
}

// pinAAD is the associated data of an AES key's sample.
func pinAAD(k Key) []byte { return []byte(k.Name + "|" + k.ID) }

// pinInput is what an HMAC key's pin is the HMAC of.
func pinInput(k Key) []byte { return []byte(pinText + "|" + k.Name) }

// makePin has the token compute the pin of a secret key.
func (u *unit) makePin(k Key, h handle) (Pin, error) {
	switch k.Algorithm.pinScheme() {
	case pinGCM:
		iv := make([]byte, gcmIV)
		_, _ = rand.Read(iv) // never fails (crypto/rand)
		ct, err := u.encryptGCM(h, iv, pinAAD(k), []byte(pinText))
		if err != nil {
			return "", fmt.Errorf("seal pin sample of %s: %w", k.Name, err)
		}
		return Pin(pinGCM + ":" + base64.StdEncoding.EncodeToString(append(iv, ct...))), nil
	case pinTDEA:
		answer, err := u.tdeaAnswer(k, h)
		if err != nil {
			return "", fmt.Errorf("compute pin of %s: %w", k.Name, err)
		}
		return Pin(pinTDEA + ":" + hex.EncodeToString(answer)), nil
	default:
		mac, err := u.hmac(h, pinInput(k))
		if err != nil {
			return "", fmt.Errorf("compute pin of %s: %w", k.Name, err)
		}
		return Pin(pinHMAC + ":" + hex.EncodeToString(mac)), nil
	}
}

// roundTrip seals and opens with an AES key.
func (u *unit) roundTrip(h handle) error {
	iv := make([]byte, gcmIV)
	_, _ = rand.Read(iv) // never fails (crypto/rand)
	sealed, err := u.encryptGCM(h, iv, nil, []byte(pinText))
	if err != nil {
		return err
	}
	_, err = u.decryptGCM(h, iv, nil, sealed)
	return err
}

// provePin reports whether the secret key behind h answers to its pin. A false answer
// is a different key; an error is a token that did not answer.
func (u *unit) provePin(k Key, h handle, p Pin) (bool, error) {
	_, value, _ := strings.Cut(string(p), ":")
	switch k.Algorithm.pinScheme() {
	case pinGCM:
		sample, _ := base64.StdEncoding.DecodeString(value) // checked when the keyring was read
		pt, err := u.decryptGCM(h, sample[:gcmIV], pinAAD(k), sample[gcmIV:])
		if err != nil {
			// A bad tag may have a code that proves nothing. A key that seals and opens
			// something else is well, and not the one that is pinned.
			if classify(err) == ClassRequest || (classify(err) == ClassSuspect && u.roundTrip(h) == nil) {
				return false, nil
			}
			return false, err
		}
		return subtle.ConstantTimeCompare(pt, []byte(pinText)) == 1, nil
	case pinTDEA:
		want, _ := hex.DecodeString(value)
		answer, err := u.tdeaAnswer(k, h)
		if err != nil && classify(err) == ClassRequest {
			return false, nil // a key of another type, or with other usage flags
		}
		return err == nil && subtle.ConstantTimeCompare(answer, want) == 1, err
	default:
		want, _ := hex.DecodeString(value)
		mac, err := u.hmac(h, pinInput(k))
		if err != nil && classify(err) == ClassRequest {
			return false, nil // a key of another type, or with other usage flags
		}
		return err == nil && subtle.ConstantTimeCompare(mac, want) == 1, err
	}
}
