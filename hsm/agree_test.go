package hsm

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/softhsm"
)

// appleInfo is EV_ECC_v2's OtherInfo, written here a second time.
func appleInfo(ephemeral []byte) []byte {
	return slices.Concat([]byte("\x0did-aes256-GCMApple"), ephemeral)
}

func appleSealing(t testing.TB, to *ecdh.PublicKey) Sealing {
	t.Helper()
	return Sealing{Peer: to, OtherInfo: appleInfo, IV: make([]byte, 12), Plaintext: []byte(`{"primaryAccountNumber":"…"}`)}
}

func receiver(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// requireNothingLeft requires that every ephemeral object was destroyed.
func requireNothingLeft(t *testing.T, tok *Token) {
	t.Helper()
	if s := tok.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
		t.Errorf("%d ephemeral objects created, %d destroyed", s.EphemeralCreated, s.EphemeralDestroyed)
	}
	if n, err := tok.SessionObjects(context.Background()); err != nil || n != 0 {
		t.Errorf("%d session objects on the token, %v", n, err)
	}
}

func TestSealedPayloadOpensAtTheReceiver(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		for _, text := range [][]byte{[]byte("card"), nil, bytes.Repeat([]byte("x"), 70_000)} {
			to := receiver(t)
			s := appleSealing(t, to.PublicKey())
			s.Plaintext = text
			out, err := tok.AgreeAndSeal(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := appletest.OpenECDH(to, out.EphemeralPublicKey, out.Ciphertext)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("opened %d bytes of %d, %v", len(got), len(text), err)
			}
		}
		requireNothingLeft(t, tok)
	})
}

// The IV and the OtherInfo are the caller's, and both count.
func TestSealingUsesTheGivenIVAndOtherInfo(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	to, iv := receiver(t), []byte("another nonce")[:12]
	out, err := tok.AgreeAndSeal(context.Background(), Sealing{
		Peer: to.PublicKey(), IV: iv, Plaintext: []byte("text"),
		OtherInfo: func([]byte) []byte { return []byte("other information") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := ecdh.P256().NewPublicKey(out.EphemeralPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	z, err := to.ECDH(ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	k := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, []byte("other information")))
	got, err := hostGCM(t, k[:]).Open(nil, iv, out.Ciphertext, nil)
	if err != nil || string(got) != "text" {
		t.Errorf("opened %q, %v", got, err)
	}
}

// The public vector, through the token: its ephemeral private key as a session object,
// protected like one of ours, must give the published bytes by every way that a token
// knows. SoftHSM lacks the mechanisms of in-token and refuses them by name.
func TestPublicVectorThroughTheToken(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		for _, way := range kdfWays {
			for _, der := range []bool{false, true} {
				how := kdf{way, der}
				t.Run(how.String(), func(t *testing.T) {
					out, err := sealVector(t, tok, how)
					requireNothingLeft(t, tok)
					if way == kdfInToken && tok.KDF() != "in-token" {
						requireCode(t, err, pkcs11.CKR_MECHANISM_INVALID)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					v := appletest.VectorV1
					if !bytes.Equal(out.EphemeralPublicKey, v.EphemeralPublicKey) || !bytes.Equal(out.Ciphertext, v.Encrypted) {
						t.Errorf("sealed %x under %x", out.Ciphertext, out.EphemeralPublicKey)
					}
				})
			}
		}
	})
}

// sealVector seals the vector's plaintext with the vector's ephemeral key.
func sealVector(t *testing.T, tok *Token, how kdf) (out Sealed, err error) {
	t.Helper()
	v := appletest.VectorV1
	peer, err := ecdh.P256().NewPublicKey(v.StaticPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	err = inSession(tok, "vector", func(u *unit) (err error) {
		private := create(t, u, append(ephemeralPrivateTemplate(),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, v.EphemeralPrivateKey))...)
		tok.ephemeralCreated.Add(1)
		defer u.destroy(private)
		requireCode(t, second(u.attributes(private, pkcs11.CKA_VALUE)), pkcs11.CKR_ATTRIBUTE_SENSITIVE)
		out, err = u.sealFrom(private, v.EphemeralPublicKey, Sealing{
			Peer: peer, IV: v.IV, Plaintext: v.Plaintext,
			OtherInfo: func(ephemeral []byte) []byte {
				if !bytes.Equal(ephemeral, v.EphemeralPublicKey) {
					t.Errorf("OtherInfo is asked for %x", ephemeral)
				}
				return v.KDFInput[4+32:]
			},
		}, how)
		return err
	})
	return out, err
}

func TestBestWayOfTheTokenIsChosenAndTheOthersAreOnRecord(t *testing.T) {
	type probe struct {
		name, err string
		ok        bool
	}
	for _, tc := range []struct {
		module string
		on     *softhsm.Token
		way    string
		probes []probe
	}{
		{"SoftHSM", softhsm.New(t), "digest-key", []probe{
			{"key agreement: in-token, raw peer point", "CKR_MECHANISM_INVALID", false},
			{"key agreement: in-token, DER peer point", "CKR_MECHANISM_INVALID", false},
			{"key agreement: digest-key, raw peer point", "", true},
		}},
		{"NSS", newNSS(t), "in-token", []probe{
			{"key agreement: in-token, raw peer point", "", true},
		}},
	} {
		t.Run(tc.module, func(t *testing.T) {
			tok := open(t, tc.on, ringOf())
			if tok.KDF() != tc.way {
				t.Errorf("way in use is %s, want %s", tok.KDF(), tc.way)
			}
			if n := len(tok.Probes()); n != len(tc.probes) {
				t.Fatalf("%d probes on record, want %d", n, len(tc.probes))
			}
			for i, want := range tc.probes {
				if p := tok.Probes()[i]; p.Name != want.name || p.OK != want.ok || !strings.Contains(p.Err, want.err) || p.OK != (p.Err == "") {
					t.Errorf("probe %d is %+v, want %+v", i, p, want)
				}
			}
			requireNothingLeft(t, tok)
		})
	}
}

// The objects of an agreement have the flags of their one use. The shared secret is
// unreadable, except where reading is the only way left.
func TestEphemeralObjectsCanDoNothingElse(t *testing.T) {
	const ephemeral = "PRIVATE SENSITIVE ALWAYS_SENSITIVE NEVER_EXTRACTABLE LOCAL MODIFIABLE COPYABLE DERIVE"
	tok := open(t, softhsm.New(t), ringOf())
	for _, tc := range []struct {
		way      kdfWay
		z        string
		readable bool
	}{
		{kdfInToken, "PRIVATE SENSITIVE ALWAYS_SENSITIVE NEVER_EXTRACTABLE MODIFIABLE COPYABLE DERIVE", false},
		{kdfDigestKey, "PRIVATE SENSITIVE ALWAYS_SENSITIVE NEVER_EXTRACTABLE MODIFIABLE COPYABLE", false},
		{kdfReadAndWipe, "PRIVATE EXTRACTABLE MODIFIABLE COPYABLE", true},
	} {
		t.Run(tc.way.String(), func(t *testing.T) {
			err := inSession(tok, "derive", func(u *unit) error {
				public, private, err := u.ephemeralPair()
				if err != nil {
					return err
				}
				defer u.destroy(public, private)
				if got := flagsOf(t, u, private); got != ephemeral {
					t.Errorf("private key is %s", got)
				}
				if got := flagsOf(t, u, public); got != "LOCAL MODIFIABLE COPYABLE" {
					t.Errorf("public key is %s", got)
				}
				z, err := u.deriveZ(private, receiver(t).PublicKey().Bytes(), kdf{way: tc.way})
				if err != nil {
					return err
				}
				defer u.destroy(z)
				if got := flagsOf(t, u, z); got != tc.z {
					t.Errorf("Z is %s", got)
				}
				at, err := u.attributes(z, pkcs11.CKA_VALUE)
				if !tc.readable {
					requireCode(t, err, pkcs11.CKR_ATTRIBUTE_SENSITIVE)
				} else if err != nil || len(at[0]) != 32 {
					t.Errorf("Z is %x, %v", at, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	requireNothingLeft(t, tok)
}

// Of many agreements at once each has its own key, and all keys are gone afterwards.
func TestManyAgreementsAtOnceEachUseAKeyOfTheirOwn(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf(), func(c *Config) { c.ECConcurrency = 4 })
		to := receiver(t)
		const callers, each = 16, 13
		var mu sync.Mutex
		points := map[string]bool{}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					out, err := tok.AgreeAndSeal(context.Background(), appleSealing(t, to.PublicKey()))
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := appletest.OpenECDH(to, out.EphemeralPublicKey, out.Ciphertext); err != nil {
						t.Error(err)
					}
					mu.Lock()
					points[string(out.EphemeralPublicKey)] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(points) != callers*each {
			t.Errorf("%d different ephemeral keys in %d agreements", len(points), callers*each)
		}
		requireNothingLeft(t, tok)
	})
}

func TestFailedSealingLeavesNothingBehind(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		p384, err := ecdh.P384().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		good := appleSealing(t, receiver(t).PublicKey())
		for _, tc := range []struct {
			name  string
			spoil func(s *Sealing)
		}{
			{"no peer", func(s *Sealing) { s.Peer = nil }},
			{"an empty peer", func(s *Sealing) { s.Peer = new(ecdh.PublicKey) }},
			{"a peer on another curve", func(s *Sealing) { s.Peer = p384.PublicKey() }},
			{"no IV", func(s *Sealing) { s.IV = nil }},
			{"an IV of 16 bytes", func(s *Sealing) { s.IV = make([]byte, 16) }},
			{"no OtherInfo", func(s *Sealing) { s.OtherInfo = nil }},
		} {
			t.Run(tc.name, func(t *testing.T) {
				s := good
				tc.spoil(&s)
				before := tok.Stats()
				out, err := tok.AgreeAndSeal(context.Background(), s)
				if err == nil || out.EphemeralPublicKey != nil || out.Ciphertext != nil {
					t.Fatalf("sealed: %+v, %v", out, err)
				}
				if _, ok := retryAfter(err); ok {
					t.Errorf("%v invites to try again", err)
				}
				if after := tok.Stats(); after != before {
					t.Errorf("the token was put to work for it: %+v, then %+v", before, after)
				}
				requireNothingLeft(t, tok)
				if _, err := tok.AgreeAndSeal(context.Background(), good); err != nil {
					t.Fatalf("afterwards: %v", err)
				}
			})
		}
	})
}

// OtherInfo names the algorithm at least (SP 800-56A rev. 3, 5.8.2.1.1). It is made
// from the ephemeral key, so that the pair exists by then.
func TestEmptyOtherInfoIsRefused(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		s := appleSealing(t, receiver(t).PublicKey())
		s.OtherInfo = func([]byte) []byte { return nil }
		if out, err := tok.AgreeAndSeal(context.Background(), s); err == nil {
			t.Errorf("sealed %x", out.Ciphertext)
		}
		requireNothingLeft(t, tok)
	})
}

// A KDF that fails in the middle of its steps takes all its objects with it.
func TestFailureInTheMiddleLeavesNothingBehind(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	err := inSession(tok, "seal", func(u *unit) error {
		return second(u.agreeAndSeal(appleSealing(t, receiver(t).PublicKey()), kdf{way: kdfInToken}))
	})
	requireCode(t, err, pkcs11.CKR_MECHANISM_INVALID)
	requireNothingLeft(t, tok)
}

// A panic in a caller's OtherInfo takes neither the session nor the keys with it.
func TestPanicOfTheCallerLeavesNothingBehind(t *testing.T) {
	on := softhsm.New(t)
	shim(t, on)
	tok := open(t, on, ringOf(), func(c *Config) { c.ECConcurrency = 1 })
	s := appleSealing(t, receiver(t).PublicKey())
	s.OtherInfo = func([]byte) []byte { panic("caller's fault") }
	requireNothingLeft(t, tok)
	before, _ := sessionsOf(t, on)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = tok.AgreeAndSeal(context.Background(), s)
	}()
	requireNothingLeft(t, tok)
	if after, _ := sessionsOf(t, on); after != before {
		t.Errorf("%d sessions open, and %d before the panic", after, before)
	}
}

// An object that the token will not destroy goes with its session.
func TestObjectThatResistsGoesWithItsSession(t *testing.T) {
	on := softhsm.New(t)
	calls := shim(t, on)
	tok := open(t, on, ringOf())
	misbehave(t, on, "refuse")
	before := calls("C_DestroyObject")
	to := receiver(t)
	out, err := tok.AgreeAndSeal(context.Background(), appleSealing(t, to.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appletest.OpenECDH(to, out.EphemeralPublicKey, out.Ciphertext); err != nil {
		t.Error(err)
	}
	if n := calls("C_DestroyObject") - before; n != 3 {
		t.Errorf("%d attempts to destroy, want 3: both halves and the shared secret", n)
	}
	requireNothingLeft(t, tok)
}

// EC_POINT comes as a DER OCTET STRING or, from some modules, bare; nothing else is a
// point.
func TestECPointInBothForms(t *testing.T) {
	point := receiver(t).PublicKey().Bytes()
	for _, b := range [][]byte{point, derOctetString(point)} {
		if got, err := parseECPoint(b); err != nil || !bytes.Equal(got, point) {
			t.Errorf("%x gives %x, %v", b, got, err)
		}
	}
	off := bytes.Clone(point)
	off[64] ^= 1
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	for name, b := range map[string][]byte{
		"empty":            nil,
		"infinity":         {0},
		"off the curve":    off,
		"compressed":       compressed,
		"too short":        point[:64],
		"trailing byte":    append(bytes.Clone(point), 0),
		"trailing byte, 2": append(derOctetString(point), 0),
		"another type":     append([]byte{0x03, 65}, point...),
		"twice wrapped":    append([]byte{0x04, 67}, derOctetString(point)...),
	} {
		if got, err := parseECPoint(b); err == nil {
			t.Errorf("%s: %x is taken as %x", name, b, got)
		}
	}
}

func TestErrorsOfTheTokenKeepTheirCode(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	err := inSession(tok, "op", func(u *unit) error {
		return second(u.deriveZ(handle(987654321), receiver(t).PublicKey().Bytes(), kdf{way: kdfDigestKey}))
	})
	var e *Error
	if !errors.As(err, &e) || e.Op != "C_DeriveKey" {
		t.Fatalf("error is %v", err)
	}
	if _, ok := retryAfter(err); !ok {
		t.Errorf("a handle that went away is not a matter of availability: %v", err)
	}
	requireNothingLeft(t, tok)
}
