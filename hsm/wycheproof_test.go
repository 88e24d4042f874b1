package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// Vectors that others made, with the keys they come with: through a token where there is a
// private or secret key, and through the verification that stands before every release
// where there is a signature.

// hexBytes is a hex string in JSON.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectorGroup struct {
	IVSize, KeySize, TagSize int
	SHA                      string
	PublicKeyDer             hexBytes
	PrivateKeyPkcs8          hexBytes
	Tests                    []vector
}

type vector struct {
	TcID                    int
	Comment, Result         string
	Public, Private, Shared hexBytes
	Key, IV, AAD, Msg, Ct   hexBytes
	Tag, Sig                hexBytes
}

func readVectors(t *testing.T, name string) []vectorGroup {
	t.Helper()
	b, err := fs.ReadFile(wycheproof.TestVectors, name+"_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		TestGroups    []vectorGroup
		NumberOfTests int
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range f.TestGroups {
		n += len(g.Tests)
	}
	if n != f.NumberOfTests {
		t.Fatalf("%s: read %d vectors of %d", name, n, f.NumberOfTests)
	}
	return f.TestGroups
}

// tally counts what became of vectors. A wrong one is an error of the test.
type tally struct {
	run, accepted, refused int
	excluded               map[string]int
}

func (c *tally) exclude(why string) {
	if c.excluded == nil {
		c.excluded = map[string]int{}
	}
	c.excluded[why]++
}

// judge counts a vector that was run. One that is acceptable may go either way.
func (c *tally) judge(t *testing.T, name string, v vector, err error) {
	t.Helper()
	c.run++
	if err == nil {
		c.accepted++
	} else {
		c.refused++
	}
	if (v.Result == "valid" && err != nil) || (v.Result == "invalid" && err == nil) {
		t.Errorf("%s %d (%s), %s: %v", name, v.TcID, v.Comment, v.Result, err)
	}
}

// String is the counts in one line.
func (c *tally) String() string {
	s := fmt.Sprintf("%d run: %d accepted, %d refused", c.run, c.accepted, c.refused)
	for _, why := range slices.Sorted(maps.Keys(c.excluded)) {
		s += fmt.Sprintf("; %d excluded: %s", c.excluded[why], why)
	}
	return s
}

// requireTally holds the counts against those known: vectors do not drop out unseen.
func requireTally(t *testing.T, name string, c *tally, want string) {
	t.Helper()
	if c.String() != want {
		t.Errorf("%s: %s\nwant %s", name, c, want)
	}
	t.Logf("%s: %s, 0 wrong", name, c)
}

// A peer's point is parsed before the token sees it; what is no uncompressed point of the
// curve gets no further. Each agreement is made in every way
// that a static key may take.
func TestWycheproofECDH(t *testing.T) {
	const name = "ecdh_secp256r1_ecpoint"
	vectors := readVectors(t, name)[0].Tests
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		var c tally
		for _, v := range vectors {
			peer, err := ecdh.P256().NewPublicKey(v.Public)
			if err == nil {
				err = agreesOn(tok, v, peer)
			}
			c.judge(t, name, v, err)
		}
		requireTally(t, name, &c, "355 run: 330 accepted, 25 refused")
		requireNothingLeft(t, tok)
	})
}

var errOther = errors.New("the answer is another")

func agreesOn(tok *Token, v vector, peer *ecdh.PublicKey) error {
	info := []byte("other information")
	want := sha256.Sum256(slices.Concat(kdfCounter, v.Shared, info))
	return inSession(tok, "agree", func(u *unit) error {
		scalar := make([]byte, 32)
		copy(scalar[32-len(bytes.TrimLeft(v.Private, "\x00")):], bytes.TrimLeft(v.Private, "\x00"))
		private, err := u.e.ctx.CreateObject(u.s, append(ephemeralPrivateTemplate(),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256), pkcs11.NewAttribute(pkcs11.CKA_VALUE, scalar)))
		if err != nil {
			return ckr("C_CreateObject", err)
		}
		u.e.token.ephemeralCreated.Add(1)
		defer u.destroy(private)
		for _, way := range agreementWays {
			got, err := u.agreeKey(private, peer, info, kdf{way: way})
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want[:]) {
				return errOther
			}
		}
		return nil
	})
}

// Both ways through the token, with every key size that it takes; mintmark makes IVs of
// twelve bytes and no others.
func TestWycheproofGCM(t *testing.T) {
	const name = "aes_gcm"
	groups := readVectors(t, name)
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		var c tally
		for _, g := range groups {
			for _, v := range g.Tests {
				if checkIV(v.IV) != nil {
					c.exclude("IV is not of 12 bytes, refused before the token is asked")
					continue
				}
				c.judge(t, name, v, inSession(tok, "decrypt", func(u *unit) error { return u.opensAndSeals(v) }))
			}
		}
		requireTally(t, name, &c, "197 run: 116 accepted, 81 refused; 119 excluded: IV is not of 12 bytes, refused before the token is asked")
	})
}

// opensAndSeals has the vector's key as a session object open the ciphertext and make it.
func (u *unit) opensAndSeals(v vector) error {
	key, err := u.e.ctx.CreateObject(u.s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, []byte(v.Key)),
	})
	if err != nil {
		return ckr("C_CreateObject", err)
	}
	sealed := slices.Concat(v.Ct, v.Tag)
	clear, err := u.decryptGCM(key, v.IV, v.AAD, sealed)
	if err != nil {
		return err
	}
	again, err := u.encryptGCM(key, v.IV, v.AAD, v.Msg)
	if err == nil && (!bytes.Equal(clear, v.Msg) || !bytes.Equal(again, sealed)) {
		err = errOther
	}
	return errors.Join(err, u.e.ctx.DestroyObject(u.s, key))
}

// Private keys of others sign on the token what they signed elsewhere: RSASSA-PKCS1-v1_5
// has one signature for a message.
func TestWycheproofRSASignatures(t *testing.T) {
	on := softhsm.New(t)
	type listed struct {
		key   Key
		tests []vector
		hash  crypto.Hash
	}
	var c tally
	var all []listed
	ring := ringOf()
	change(t, on, func(u *unit) {
		for _, bits := range []string{"1024", "1536", "2048", "3072", "4096"} {
			for i, g := range readVectors(t, "rsa_pkcs1_"+bits+"_sig_gen") {
				why, hash := signingOf(g, Algorithm("RSA-"+bits))
				if why != "" {
					for range g.Tests {
						c.exclude(why)
					}
					continue
				}
				private, err := x509.ParsePKCS8PrivateKey(g.PrivateKeyPkcs8)
				if err != nil {
					t.Fatal(err)
				}
				k := entry(fmt.Sprintf("rsa-%s-%d", bits, i), MerchantJWT)
				k.Algorithm = Algorithm("RSA-" + bits)
				k = importRSA(t, u, k, private.(*rsa.PrivateKey))
				ring.Keys = append(ring.Keys, k)
				all = append(all, listed{k, g.Tests, hash})
			}
		}
	})
	tok := open(t, on, ring)
	for _, l := range all {
		for _, v := range l.tests {
			d := l.hash.New()
			d.Write(v.Msg)
			sig, err := tok.Sign(context.Background(), l.key.Name, d.Sum(nil), l.hash)
			if err == nil && !bytes.Equal(sig, v.Sig) {
				t.Errorf("%s %d: %v", l.key.Name, v.TcID, errOther)
			}
			c.judge(t, l.key.Name, v, err)
		}
	}
	requireTally(t, "rsa_pkcs1_*_sig_gen", &c, "77 run: 77 accepted, 0 refused; 16 excluded: SHA-1 and SHA-224; 65 excluded: keys of less than 2048 bits")
}

// signingOf says which hash a group signs, or why mintmark would not sign it.
func signingOf(g vectorGroup, a Algorithm) (why string, h crypto.Hash) {
	switch h := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[g.SHA]; {
	case a.rsaBits() == 0:
		return "keys of less than 2048 bits", 0
	case h == 0:
		return "SHA-1 and SHA-224", 0
	default:
		return "", h
	}
}

// What stands before every release takes what is a signature and nothing that is nearly one.
func TestWycheproofVerification(t *testing.T) {
	for _, set := range []struct{ name, want string }{
		{"ecdsa_secp256r1_sha256", "484 run: 174 accepted, 310 refused"},
		{"rsa_signature_2048_sha256", "259 run: 9 accepted, 250 refused"},
		{"rsa_signature_3072_sha256", "259 run: 8 accepted, 251 refused"},
		{"rsa_signature_4096_sha256", "258 run: 7 accepted, 251 refused"},
		{"rsa_signature_8192_sha256", "258 run: 7 accepted, 251 refused"},
	} {
		var c tally
		for _, g := range readVectors(t, set.name) {
			pub, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range g.Tests {
				d := sha256.Sum256(v.Msg)
				c.judge(t, set.name, v, verify(pub, crypto.SHA256, d[:], v.Sig))
			}
		}
		requireTally(t, set.name, &c, set.want)
	}
}
