package conformance

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
)

// agreement are the checks of key agreement.
func agreement() []check {
	issuer := func(k hsm.Key) bool { return k.Purpose == hsm.CardVault }
	all := []check{{"key agreement and sealing", issuer, sealsForTheHost}}
	for i, way := range []string{"in-token", "digest-key", "read-and-wipe"} {
		all = append(all, check{"key derivation " + way, nil, derives(i)})
	}
	return append(all,
		check{"static key agreement", func(k hsm.Key) bool { return k.Purpose == hsm.CardTransport }, agreesWithTheHost},
		check{"no session object is left", issuer, leavesNoObject},
	)
}

const noAgreement = "the token does not agree on keys"

// counter is the KDF's (NIST SP 800-56A rev. 3, 5.8.2.1) for its only block.
var counter = []byte{0, 0, 0, 1}

// sealOnce seals to a key of the host's, which opens.
func sealOnce(ctx context.Context, tok *hsm.Token) error {
	host, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	info, iv := []byte("other information"), make([]byte, 12)
	sealed, err := tok.AgreeAndSeal(ctx, hsm.Sealing{
		Peer: host.PublicKey(), OtherInfo: func([]byte) []byte { return info }, IV: iv, Plaintext: message,
		AAD: func(point []byte) []byte { return point },
	})
	if err != nil {
		return err
	}
	point, err := ecdh.P256().NewPublicKey(sealed.EphemeralPublicKey)
	if err != nil {
		return err
	}
	z, err := host.ECDH(point)
	if err != nil {
		return err
	}
	key := sha256.Sum256(bytes.Join([][]byte{counter, z, info}, nil))
	aead, err := gcm(key[:])
	if err != nil {
		return err
	}
	clear, err := aead.Open(nil, iv, sealed.Ciphertext, sealed.EphemeralPublicKey)
	if err == nil && !bytes.Equal(clear, message) {
		err = errors.New("the text is another")
	}
	return err
}

func sealsForTheHost(ctx context.Context, b *bench) (string, error) {
	if b.cfg.SignaturesOnly {
		return "", errors.New(noAgreement)
	}
	return "the service takes " + b.tok.KDF(), sealOnce(ctx, b.tok)
}

// derives tries one of the ways, in hsm's order.
func derives(i int) func(context.Context, *bench) (string, error) {
	return func(ctx context.Context, b *bench) (string, error) {
		if b.ways == nil {
			all, err := b.tok.TryKDFs(ctx)
			if err != nil {
				return "", err
			}
			b.ways = all
		}
		if way := b.ways[i]; !way.OK {
			return "", errors.New(way.Err)
		}
		return b.ways[i].Name, nil
	}
}

func agreesWithTheHost(ctx context.Context, b *bench) (string, error) {
	if b.cfg.SignaturesOnly {
		return "", untried(noAgreement)
	}
	name, err := b.key(agree)
	if err != nil {
		return "", err
	}
	pub, err := b.tok.Public(name)
	if err != nil {
		return "", err
	}
	static, err := pub.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return "", err
	}
	host, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	info := []byte("other information")
	got, err := b.tok.AgreeKey(ctx, name, host.PublicKey(), info)
	if err != nil {
		return "", err
	}
	z, err := host.ECDH(static)
	if err != nil {
		return "", err
	}
	if want := sha256.Sum256(bytes.Join([][]byte{counter, z, info}, nil)); !bytes.Equal(got, want[:]) {
		return "", errors.New("the key is another than the host's")
	}
	return "", nil
}

// seals is how often the search for what is left behind seals.
const seals = 20

func leavesNoObject(ctx context.Context, b *bench) (string, error) {
	if b.cfg.SignaturesOnly {
		return "", untried(noAgreement)
	}
	for range seals {
		if err := sealOnce(ctx, b.tok); err != nil {
			return "", err
		}
	}
	n, err := b.tok.SessionObjects(ctx)
	s := b.tok.Stats()
	switch {
	case err != nil:
		return "", err
	case n != 0 || s.EphemeralCreated != s.EphemeralDestroyed:
		return "", fmt.Errorf("%d objects after %d sealings; %d made, %d destroyed", n, seals, s.EphemeralCreated, s.EphemeralDestroyed)
	}
	return fmt.Sprintf("%d made and destroyed", s.EphemeralCreated), nil
}
