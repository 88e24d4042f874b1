package hsm

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// A Sealing is one payload to be encrypted to one public key under a key that is
// agreed upon for it alone: ECDH with an ephemeral P-256 pair made in the token, the
// single-step KDF of NIST SP 800-56A rev. 3, 5.8.2.1 with SHA-256 (one block), and
// AES-256-GCM.
type Sealing struct {
	// Peer is the receiver's static public key, on P-256.
	Peer *ecdh.PublicKey
	// OtherInfo gives the KDF's OtherInfo for the ephemeral public key (65 bytes,
	// uncompressed).
	OtherInfo func(ephemeralPublicKey []byte) []byte
	// IV has 12 bytes. It may be constant: the key is used once.
	IV []byte
	// Plaintext is what is sealed. It is not kept.
	Plaintext []byte
	// AAD gives the associated data for the ephemeral public key; nil for none.
	AAD func(ephemeralPublicKey []byte) []byte
}

// check refuses what cannot be sealed, before the token works for it.
func (s Sealing) check() error {
	if s.Peer == nil || s.Peer.Curve() != ecdh.P256() {
		return errors.New("peer is not a P-256 public key") // miekg panics on an empty point
	}
	if s.OtherInfo == nil {
		return errors.New("OtherInfo is missing")
	}
	return checkIV(s.IV)
}

// Sealed is the outcome of a Sealing.
type Sealed struct {
	EphemeralPublicKey []byte // 65 bytes, uncompressed point
	Ciphertext         []byte // with the 16-byte tag at its end
}

var errSignsOnly = errors.New("the member signs only; another one must seal")

// AgreeAndSeal makes an ephemeral pair, agrees, derives, encrypts and destroys, in one
// session. One call is one pair and one payload: no other way leads to an ephemeral
// key. It may be repeated as a whole after an error, never in part.
func (t *Token) AgreeAndSeal(ctx context.Context, s Sealing) (Sealed, error) {
	if err := s.check(); err != nil {
		return Sealed{}, fmt.Errorf("agree-and-seal: %w", err)
	}
	if t.cfg.SignaturesOnly {
		return Sealed{}, fmt.Errorf("agree-and-seal: %w", &unavailable{err: errSignsOnly, after: time.Minute})
	}
	// A copy of its own: the caller overwrites the plaintext, and may be gone before the
	// token is done.
	s.IV, s.Plaintext = bytes.Clone(s.IV), bytes.Clone(s.Plaintext)
	return work(ctx, t, "agree-and-seal", func(u *unit) (Sealed, error) {
		return u.agreeAndSeal(s, u.e.kdf)
	}, s.Plaintext)
}

func (u *unit) agreeAndSeal(s Sealing, how kdf) (Sealed, error) {
	public, private, err := u.ephemeralPair()
	if err != nil {
		return Sealed{}, err
	}
	defer u.destroy(public, private)
	value, err := u.e.sized.attribute(u.s, public, pkcs11.CKA_EC_POINT, ecPointRoom)
	if err != nil {
		return Sealed{}, err
	}
	point, err := parseECPoint(value)
	if err != nil {
		return Sealed{}, fmt.Errorf("ephemeral public key: %w", err)
	}
	return u.sealFrom(private, point, s, how)
}

// ecPointRoom is more than a point of P-256 takes, DER or not (67 and 65 bytes).
const ecPointRoom = 80

// sealFrom seals with the pair of which private is the token's half and point the
// public one.
func (u *unit) sealFrom(private handle, point []byte, s Sealing, how kdf) (Sealed, error) {
	otherInfo := s.OtherInfo(point)
	if len(otherInfo) == 0 {
		return Sealed{}, errors.New("OtherInfo is empty") // it names the algorithm, at least (5.8.2.1.1)
	}
	var aad []byte
	if s.AAD != nil {
		aad = s.AAD(point)
	}
	z, err := u.deriveZ(private, s.Peer.Bytes(), how)
	if err != nil {
		return Sealed{}, err
	}
	defer u.destroy(z)
	ciphertext, err := how.way.seal(u, z, otherInfo, s.IV, aad, s.Plaintext)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{EphemeralPublicKey: point, Ciphertext: ciphertext}, nil
}

// ephemeralPair makes a P-256 pair of session objects.
func (u *unit) ephemeralPair() (public, private handle, err error) {
	public, private, err = u.e.ctx.GenerateKeyPair(u.s,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		ephemeralPublicTemplate(), ephemeralPrivateTemplate())
	if err != nil {
		return 0, 0, ckr("C_GenerateKeyPair", err)
	}
	u.e.token.ephemeralCreated.Add(2)
	return public, private, nil
}

// deriveZ has the token compute the shared secret Z, the X coordinate (SEC 1, 3.3.1),
// as a session object.
func (u *unit) deriveZ(private handle, peer []byte, how kdf) (handle, error) {
	if how.derPeer {
		peer = derOctetString(peer)
	}
	mech := pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, peer))
	z, err := u.e.ctx.DeriveKey(u.s, []*pkcs11.Mechanism{mech}, private, sharedSecretTemplate(how.way))
	if err != nil {
		return 0, ckr("C_DeriveKey", err)
	}
	u.e.token.ephemeralCreated.Add(1)
	return z, nil
}

// destroy destroys session objects. One that resists goes with its session.
func (u *unit) destroy(objects ...handle) {
	for _, o := range objects {
		if err := u.e.ctx.DestroyObject(u.s, o); err != nil {
			u.tainted = true
			u.e.token.log.Debug("session object not destroyed; closing its session", "error", ckr("C_DestroyObject", err))
		}
		u.e.token.ephemeralDestroyed.Add(1)
	}
}

// derOctetString wraps 65 bytes as a DER OCTET STRING, the form in which some modules
// want a peer's point.
func derOctetString(point []byte) []byte {
	return append([]byte{0x04, byte(len(point))}, point...)
}
