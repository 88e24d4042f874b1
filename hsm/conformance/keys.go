package conformance

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// What the disposable keys are for.
const (
	signRSA   = "rsa-2048"
	signEC    = "p-256"
	agree     = "agreement"
	sealGCM   = "aes"
	mac       = "hmac"
	tdea      = "tdea"
	victim    = "victim"  // a signing key that the operator removes
	crossed   = "crossed" // a private key under the CKA_ID of another one's public key
	known     = "known-"  // and an algorithm: a key whose value the host has
	knownAES  = known + "aes"
	knownHMAC = known + "hmac"
	knownTDEA = known + "tdea"
)

// makeKeys makes the keys that the token can make, and opens it with them.
func (b *bench) makeKeys(ctx context.Context) error {
	wanted := []hsm.NewKey{
		{Name: signRSA, Purpose: hsm.TAVSigning, Algorithm: hsm.RSA2048},
		{Name: signEC, Purpose: hsm.ProximityToken, Algorithm: hsm.P256},
		{Name: sealGCM, Purpose: hsm.CardVault, Algorithm: hsm.AES256},
		{Name: mac, Purpose: hsm.CardIndex, Algorithm: hsm.HMACSHA256},
		{Name: tdea, Purpose: hsm.VisaZone, Algorithm: hsm.TDEA},
		{Name: victim, Purpose: hsm.AuditCheckpoint, Algorithm: hsm.P256},
	}
	if !b.cfg.SignaturesOnly {
		wanted = append(wanted, hsm.NewKey{Name: agree, Purpose: hsm.CardTransport, Algorithm: hsm.P256})
	}
	for _, a := range b.longRSA() {
		wanted = append(wanted, hsm.NewKey{Name: string(a), Purpose: hsm.NetworkOTP, Algorithm: a})
	}
	for _, n := range wanted {
		if err := b.generate(ctx, n); err != nil {
			return err
		}
	}
	if _, ok := b.keys[victim]; !ok { // a token without P-256
		if err := b.generate(ctx, hsm.NewKey{Name: victim, Purpose: hsm.TAVSigning}); err != nil {
			return err
		}
	}
	b.cross()
	for what, make := range map[string]func([]byte, hsm.Key) (hsm.Pin, error){knownAES: pinAES, knownHMAC: pinHMAC, knownTDEA: pinTDEA} {
		if err := b.know(what, make); err != nil {
			b.missing[what] = err.Error()
		}
	}
	return b.reopen(ctx)
}

// longRSA are the RSA sizes beyond 2048 that a key is listed with.
func (b *bench) longRSA() (all []hsm.Algorithm) {
	for _, a := range []hsm.Algorithm{hsm.RSA3072, hsm.RSA4096} {
		if slices.ContainsFunc(b.needs, func(k hsm.Key) bool { return k.Algorithm == a }) {
			all = append(all, a)
		}
	}
	return all
}

// generate has the service's own code make a key. A key that the token cannot make is a
// finding, not an error.
func (b *bench) generate(ctx context.Context, n hsm.NewKey) error {
	what := n.Name
	n.Name = labelOf(what)
	k, narrowed, err := b.tok.Generate(ctx, n, time.Now())
	var gone *hsm.DownError
	switch {
	case errors.As(err, &gone), ctx.Err() != nil:
		return err
	case err != nil:
		b.missing[what] = err.Error()
		return nil
	}
	b.keys[what] = k
	b.generated++
	if narrowed {
		b.narrowed++
	}
	return nil
}

// labelOf is the name of a key in the run's keyring, and its label.
func labelOf(what string) string { return Prefix + lower(what) }

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// key gives the name of the key for something, or says why there is none.
func (b *bench) key(what string) (string, error) {
	k, ok := b.keys[what]
	if !ok {
		return "", untried("no key for it: " + b.missing[what])
	}
	return k.Name, nil
}

// entry is the keyring entry of a key that comes from outside.
func (b *bench) entry(what string, p hsm.Purpose, a hsm.Algorithm) hsm.Key {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return hsm.Key{
		Name: labelOf(what), Purpose: p, Algorithm: a, ID: hex.EncodeToString(id), Pins: map[string]hsm.Pin{},
		Provenance: hsm.Imported, State: hsm.Active, Created: b.report.Date,
	}
}

func idOf(k hsm.Key) []byte {
	id, _ := hex.DecodeString(k.ID) // made as hex
	return id
}

// oidP256 is CKA_EC_PARAMS of P-256 (RFC 5480, 2.1.1.1).
var oidP256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// cross makes two pairs of which each private key stands under the other's CKA_ID, and
// lists the first with the pin of its public key: what signs under it is another key.
func (b *bench) cross() {
	err := b.crossAs(hsm.APITLS, hsm.P256)
	if err != nil { // a token without P-256
		err = b.crossAs(hsm.TAVSigning, hsm.RSA2048)
	}
	if err != nil {
		b.missing[crossed] = err.Error()
	}
}

func (b *bench) crossAs(p hsm.Purpose, a hsm.Algorithm) error {
	k, other := b.entry(crossed, p, a), b.entry(crossed, p, a)
	err := b.raw.do(func(h hand) error {
		public, err := h.pair(k, idOf(other))
		if err == nil {
			_, err = h.pair(other, idOf(k))
		}
		if err != nil {
			return err
		}
		pub, err := h.public(public, a)
		if err != nil {
			return err
		}
		k.Pins[b.cfg.Name], err = pinSPKI(pub)
		return err
	})
	if err != nil {
		return err
	}
	b.keys[crossed] = k
	return nil
}

// pair makes a pair for signing, whose private half stands under a CKA_ID of its own.
func (h hand) pair(k hsm.Key, privateID []byte) (public pkcs11.ObjectHandle, err error) {
	mechanism := uint(pkcs11.CKM_EC_KEY_PAIR_GEN)
	kind := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256)}
	if k.Algorithm != hsm.P256 {
		mechanism = pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
		kind = rsaOf2048()
	}
	public, _, err = h.GenerateKeyPair(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)},
		append(kind,
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
			pkcs11.NewAttribute(pkcs11.CKA_ID, idOf(k)), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)),
		append(protected(k.Name, privateID), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)))
	if err != nil {
		return 0, fmt.Errorf("C_GenerateKeyPair: %w", err)
	}
	return public, nil
}

func rsaOf2048() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
	}
}

// protected are the attributes of a key that is never shown.
func protected(label string, id []byte) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	}
}

// public reads a public key; a point on P-256 as a DER OCTET STRING or bare.
func (h hand) public(o pkcs11.ObjectHandle, a hsm.Algorithm) (crypto.PublicKey, error) {
	if a != hsm.P256 {
		n, err := h.read(o, pkcs11.CKA_MODULUS)
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, err
	}
	b, err := h.read(o, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(b, &point); err != nil {
		point = b
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// knownKeys describes the secret keys whose value the host has.
var knownKeys = map[string]struct {
	purpose   hsm.Purpose
	algorithm hsm.Algorithm
	keyType   uint
	size      int
	generate  uint // the mechanism
	uses      []uint
}{
	knownAES:  {hsm.CardVault, hsm.AES256, pkcs11.CKK_AES, 32, pkcs11.CKM_AES_KEY_GEN, []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT}},
	knownHMAC: {hsm.CardIndex, hsm.HMACSHA256, pkcs11.CKK_GENERIC_SECRET, 32, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, []uint{pkcs11.CKA_SIGN}},
	knownTDEA: {hsm.VisaZone, hsm.TDEA, pkcs11.CKK_DES3, 24, pkcs11.CKM_DES3_KEY_GEN, []uint{pkcs11.CKA_ENCRYPT}},
}

// know puts a secret key into the token whose value the host knows, or, on a token that
// takes none, has it make one that can be read. The pin is computed by the host.
func (b *bench) know(what string, pin func(value []byte, k hsm.Key) (hsm.Pin, error)) error {
	d := knownKeys[what]
	k := b.entry(what, d.purpose, d.algorithm)
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, idOf(k)), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	}
	for _, use := range d.uses {
		common = append(common, pkcs11.NewAttribute(use, true))
	}
	value := make([]byte, d.size)
	_, _ = rand.Read(value) // never fails (crypto/rand)
	if d.algorithm == hsm.TDEA {
		oddParity(value)
	}
	err := b.raw.do(func(h hand) error {
		_, err := h.CreateObject(h.s, append(slices.Clone(common),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, d.keyType),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)))
		if err == nil {
			return nil
		}
		readable := append(slices.Clone(common), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
		if d.algorithm != hsm.TDEA {
			readable = append(readable, pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, d.size))
		}
		o, again := h.GenerateKey(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(d.generate, nil)}, readable)
		if again != nil {
			return fmt.Errorf("the token takes no key from outside (%w) and makes none that can be read (%w)", err, again)
		}
		value, again = h.read(o, pkcs11.CKA_VALUE)
		return again
	})
	if err != nil {
		return err
	}
	if k.Pins[b.cfg.Name], err = pin(value, k); err != nil {
		return err
	}
	b.keys[what] = k
	return nil
}

// oddParity sets each byte's parity, as DES keys have it and some tokens demand.
func oddParity(key []byte) {
	for i, b := range key {
		ones := 0
		for j := 1; j < 8; j++ {
			ones += int(b >> j & 1)
		}
		key[i] = b&^1 | byte(1-ones%2)
	}
}

// The pins, computed here as hsm.Pin describes them.

const pinText = "mintmark-pin-v1"

func pinSPKI(pub crypto.PublicKey) (hsm.Pin, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	sum := sha256.Sum256(der)
	return hsm.Pin("spki-sha256:" + hex.EncodeToString(sum[:])), err
}

func pinAES(value []byte, k hsm.Key) (hsm.Pin, error) {
	aead, err := gcm(value)
	if err != nil {
		return "", err
	}
	iv := make([]byte, aead.NonceSize())
	_, _ = rand.Read(iv) // never fails (crypto/rand)
	return hsm.Pin("aes-gcm:" + base64.StdEncoding.EncodeToString(aead.Seal(iv, iv, []byte(pinText), []byte(k.Name+"|"+k.ID)))), nil
}

func pinHMAC(value []byte, k hsm.Key) (hsm.Pin, error) {
	h := hmac.New(sha256.New, value)
	h.Write([]byte(pinText + "|" + k.Name))
	return hsm.Pin("hmac-sha256:" + hex.EncodeToString(h.Sum(nil))), nil
}

func pinTDEA(value []byte, k hsm.Key) (hsm.Pin, error) {
	block, err := des.NewTripleDESCipher(value)
	if err != nil {
		return "", err
	}
	check := make([]byte, des.BlockSize)
	block.Encrypt(check, check)
	text := sha256.Sum256([]byte(pinText + "|" + k.Name))
	cipher.NewCBCEncrypter(block, make([]byte, des.BlockSize)).CryptBlocks(text[:], text[:])
	sum := sha256.Sum256(text[:])
	return hsm.Pin("tdea-kcv:" + hex.EncodeToString(append(check[:3], sum[:]...))), nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
