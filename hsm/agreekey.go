package hsm

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// agreementWays are the ways in which the key that a static pair agrees upon comes to be,
// from best to worst. In-token derivation is not among them: the key wraps another, which
// has to leave the token as well.
var agreementWays = []kdfWay{kdfDigestKey, kdfReadAndWipe}

var errNoPeer = errors.New("agree: peer is not a P-256 public key")

// AgreeKey agrees with a peer's ephemeral key by the static P-256 key called name and
// derives a 32-byte key: ECDH, then the single-step KDF of NIST SP 800-56A rev. 3, 5.8.2.1
// with SHA-256 (one block) and otherInfo. The shared secret stays in the token where the
// token can digest it there. The caller overwrites the key. A key that is retired or next
// still serves, to open what was sent to it.
func (t *Token) AgreeKey(ctx context.Context, name string, peer *ecdh.PublicKey, otherInfo []byte) ([]byte, error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return nil, errNoPeer // miekg panics on an empty point
	}
	if len(otherInfo) == 0 {
		return nil, errors.New("agree: OtherInfo is empty") // it names the algorithm, at least
	}
	if t.cfg.SignaturesOnly {
		return nil, fmt.Errorf("agree: %w", &unavailable{err: errSignsOnly, after: time.Minute})
	}
	otherInfo = bytes.Clone(otherInfo) // see AgreeAndSeal
	return work(ctx, t, "agree", func(u *unit) ([]byte, error) {
		k, err := u.e.using(name, true)
		if err != nil {
			return nil, err
		}
		if !k.Purpose.agrees() {
			return nil, fmt.Errorf("key %s is for %s, which agrees on no key", name, k.Purpose)
		}
		return u.agreeKey(k.handle, peer, otherInfo, kdf{way: u.e.agreement, derPeer: u.e.kdf.derPeer})
	})
}

// AgreeKey agrees with the key called name; see Token.AgreeKey.
func (h *HSM) AgreeKey(ctx context.Context, name string, peer *ecdh.PublicKey, otherInfo []byte) ([]byte, error) {
	return ask(ctx, h, agreeing, func(ctx context.Context, t Member) ([]byte, error) { return t.AgreeKey(ctx, name, peer, otherInfo) })
}

func (u *unit) agreeKey(private handle, peer *ecdh.PublicKey, otherInfo []byte, how kdf) ([]byte, error) {
	z, err := u.deriveZ(private, peer.Bytes(), how)
	if err != nil {
		return nil, err
	}
	defer u.destroy(z)
	if how.way == kdfDigestKey {
		return u.digestKey(z, otherInfo)
	}
	return u.readAndHash(z, otherInfo)
}

// proveAgreements proves the keys that agree: that the private half belongs to the pinned
// public one, and by which way the token gives the known answer. A key that gives another
// is lost.
func (e *epoch) proveAgreements() error {
	if e.token.cfg.SignaturesOnly {
		return nil
	}
	ways := agreementWays
	for _, listed := range e.ring.Keys {
		k := e.keys[listed.Name]
		if k == nil || !k.Purpose.agrees() || (k.problem != "" && k.problem != KeyRetired) {
			continue
		}
		err := e.withSession(func(u *unit) error { return u.proveAgreement(k, ways) })
		switch {
		case err == nil:
			ways = []kdfWay{e.agreement} // one token, one way
		case incapable(err):
			k.problem = KeyLost // for report to say
		default:
			return fmt.Errorf("agree with %s: %w", k.Name, err)
		}
	}
	return nil
}

// proveAgreement agrees with a fresh key of our own, and computes the same on the host.
func (u *unit) proveAgreement(k *tokenKey, ways []kdfWay) error {
	static, ok := k.pub.(*ecdsa.PublicKey)
	if !ok {
		return errWrongAnswer
	}
	to, err := static.ECDH()
	if err != nil {
		return errWrongAnswer
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	z, err := peer.ECDH(to)
	if err != nil {
		return err
	}
	otherInfo := []byte("mintmark self-test")
	want := sha256.Sum256(bytes.Join([][]byte{kdfCounter, z, otherInfo}, nil))
	for _, way := range ways {
		var got []byte
		err = u.e.withSession(func(again *unit) (err error) {
			got, err = again.agreeKey(k.handle, peer.PublicKey(), otherInfo, kdf{way: way, derPeer: u.e.kdf.derPeer})
			return err
		})
		if err == nil && !bytes.Equal(got, want[:]) {
			err = errWrongAnswer
		}
		if err == nil {
			u.e.agreement = way
			return nil
		}
		if !incapable(err) {
			break
		}
	}
	return err
}
