package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/softhsm"
)

// No test leaves a goroutine behind: not a caller waiting for a place, not a pool.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == MemberCommand { // the child of an isolated member
		if ServeMember() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	startWithin = time.Minute
	leaktest.Main(m)
}

// member is the name under which the tests open their token.
const member = "main"

// ringOf is a keyring of the tests' environment with these keys.
func ringOf(keys ...Key) *Keyring { return &Keyring{Environment: "test", Keys: keys} }

func configFor(on *softhsm.Token, ring *Keyring) Config {
	return Config{
		Name: member, Module: on.Module, TokenLabel: on.Label, PINFile: on.PINFile, Keyring: ring,
		CallTimeout: 5 * time.Minute, // RSA keys are made here, on whatever machine it is
		Log:         slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// open opens the token and closes it when the test ends.
func open(t testing.TB, on *softhsm.Token, ring *Keyring, change ...func(*Config)) *Token {
	t.Helper()
	cfg := configFor(on, ring)
	for _, c := range change {
		c(&cfg)
	}
	tok, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, tok) })
	return tok
}

func shut(t testing.TB, tok *Token) {
	t.Helper()
	if err := tok.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// operate gives fn the hands of an operator on an open token: a read-write session
// beside the service's own.
func operate(t testing.TB, tok *Token, fn func(u *unit)) {
	t.Helper()
	e := tok.current.Load()
	s, err := e.ctx.OpenSession(e.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.ctx.CloseSession(s); err != nil {
			t.Error(err)
		}
	}()
	fn(&unit{e: e, s: s})
}

// change opens a closed token for an operator's work on it, and closes it again.
func change(t testing.TB, on *softhsm.Token, fn func(u *unit)) {
	t.Helper()
	tok := open(t, on, ringOf())
	operate(t, tok, fn)
	shut(t, tok)
}

func create(t testing.TB, u *unit, template ...*pkcs11.Attribute) handle {
	t.Helper()
	h, err := u.e.ctx.CreateObject(u.s, template)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// hostRSA gives the i-th RSA key of the test binary, made on the host: importing is
// faster than generating in SoftHSM.
func hostRSA(t testing.TB, i int) *rsa.PrivateKey {
	t.Helper()
	hostKeys.Lock()
	defer hostKeys.Unlock()
	for len(hostKeys.rsa) <= i {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		hostKeys.rsa = append(hostKeys.rsa, k)
	}
	return hostKeys.rsa[i]
}

var hostKeys struct {
	sync.Mutex
	rsa []*rsa.PrivateKey
}

// freshEC makes a P-256 key on the host.
func freshEC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// entry is a keyring entry of an imported key, not pinned yet. Its CKA_ID comes from
// its name.
func entry(name string, p Purpose) Key {
	return Key{
		Name: name, Purpose: p, Algorithm: p.DefaultAlgorithm(), ID: hex.EncodeToString([]byte(name)),
		Pins: map[string]Pin{}, Provenance: Imported, State: Active, Created: "2026-11-22",
	}
}

// importRSA imports both halves of key under k's CKA_ID and returns k with its pin.
func importRSA(t testing.TB, u *unit, k Key, key *rsa.PrivateKey) Key {
	t.Helper()
	importRSAPublic(t, u, k, &key.PublicKey)
	importRSAPrivate(t, u, k, key)
	k.Pins = map[string]Pin{member: pinOf(t, &key.PublicKey)}
	return k
}

func importRSAPublic(t testing.TB, u *unit, k Key, pub *rsa.PublicKey) handle {
	t.Helper()
	return create(t, u,
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, pub.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(pub.E)).Bytes()),
	)
}

func importRSAPrivate(t testing.TB, u *unit, k Key, key *rsa.PrivateKey, more ...*pkcs11.Attribute) handle {
	t.Helper()
	return create(t, u, append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
	}, more...)...)
}

// importEC imports both halves of key under k's CKA_ID and returns k with its pin.
func importEC(t testing.TB, u *unit, k Key, key *ecdsa.PrivateKey) Key {
	t.Helper()
	importECPublic(t, u, k, &key.PublicKey)
	importECPrivate(t, u, k, key)
	k.Pins = map[string]Pin{member: pinOf(t, &key.PublicKey)}
	return k
}

func importECPublic(t testing.TB, u *unit, k Key, pub *ecdsa.PublicKey) handle {
	t.Helper()
	point, err := pub.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return create(t, u,
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256),
		pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, derOctetString(point)),
	)
}

func importECPrivate(t testing.TB, u *unit, k Key, key *ecdsa.PrivateKey) handle {
	t.Helper()
	value, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return create(t, u,
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, !k.Purpose.agrees()),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, k.Purpose.agrees()),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
	)
}

// importSecret imports an AES or HMAC key, as k's algorithm says, and returns k with
// its pin.
func importSecret(t testing.TB, u *unit, k Key, value []byte) Key {
	t.Helper()
	keyType := uint(pkcs11.CKK_GENERIC_SECRET)
	switch k.Algorithm {
	case AES256:
		keyType = pkcs11.CKK_AES
	case TDEA:
		keyType = pkcs11.CKK_DES3
	}
	h := create(t, u,
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, k.Algorithm != HMACSHA256),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, k.Algorithm == AES256),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, k.Algorithm == HMACSHA256),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
	)
	pin, err := u.makePin(k, h)
	if err != nil {
		t.Fatal(err)
	}
	k.Pins = map[string]Pin{member: pin}
	return k
}

func pinOf(t testing.TB, pub crypto.PublicKey) Pin {
	t.Helper()
	pin, err := spkiPin(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

// withID finds the handles of all objects under k's CKA_ID, of one class.
func withID(t testing.TB, u *unit, k Key, class uint) []handle {
	t.Helper()
	found, err := u.find(pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// remove deletes what is on the token under k's CKA_ID.
func remove(t testing.TB, u *unit, k Key, classes ...uint) {
	t.Helper()
	gone := 0
	for _, class := range classes {
		for _, h := range withID(t, u, k, class) {
			if err := u.e.ctx.DestroyObject(u.s, h); err != nil {
				t.Fatal(err)
			}
			gone++
		}
	}
	if gone == 0 {
		t.Fatalf("nothing to delete under the CKA_ID of %s", k.Name)
	}
}

// requireKeyError requires a *KeyError of this problem.
func requireKeyError(t testing.TB, err error, name string, want KeyProblem) {
	t.Helper()
	var ke *KeyError
	if !errors.As(err, &ke) || ke.Name != name || ke.Problem != want {
		t.Fatalf("error is %v, want that key %s %s", err, name, want)
	}
	if d, ok := retryAfter(err); !ok || d != time.Minute {
		t.Fatalf("RetryAfter is %v (%v), want a minute", d, ok)
	}
}

// retryAfter finds what a caller of this package finds.
func retryAfter(err error) (time.Duration, bool) {
	var r interface{ RetryAfter() time.Duration }
	if !errors.As(err, &r) {
		return 0, false
	}
	return r.RetryAfter(), true
}

// expired is a context that has ended.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func sha(s string) []byte {
	d := sha256.Sum256([]byte(s))
	return d[:]
}

// requireSigns requires that the key called name signs, and rightly.
func requireSigns(t testing.TB, tok Member, name string) {
	t.Helper()
	sig, err := tok.Sign(context.Background(), name, sha("message"), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := tok.Public(name)
	if err != nil {
		t.Fatal(err)
	}
	requireVerifies(t, pub, crypto.SHA256, sha("message"), sig)
}

// requireVerifies requires that the standard library takes a signature over a digest.
func requireVerifies(t testing.TB, pub crypto.PublicKey, hash crypto.Hash, digest, sig []byte) {
	t.Helper()
	verifies := false
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		verifies = rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
	case *ecdsa.PublicKey:
		verifies = ecdsa.VerifyASN1(pub, digest, sig)
	}
	if !verifies {
		t.Fatalf("signature %x does not verify with the %T", sig, pub)
	}
}
