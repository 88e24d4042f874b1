package signer

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// handshakeWithin bounds the signature of one handshake, waiting for its place included.
const handshakeWithin = 5 * time.Second

// TLSKey gives the api-tls key called name, whose certificate has the public key pub, as
// crypto/tls takes it. It is there while the token is not; handshakes then fail, and resumed
// sessions, which need no signature, go on. Handshakes are counted, and not recorded: they
// release nothing but the proof that this server holds its key.
func (g *Gate) TLSKey(name string, pub crypto.PublicKey) crypto.Signer {
	return tlsKey{g, hsm.APITLS, name, pub}
}

// PushKey gives the pass key called name, whose certificate has the public key pub, for
// the handshakes of a client of Apple's push service, which knows pass types by their
// certificates. An RSA key signs as TLS 1.2 can have it alone: TLS 1.3 wants RSASSA-PSS,
// and the token's keys are made for RSASSA-PKCS1-v1_5.
func (g *Gate) PushKey(name string, pub crypto.PublicKey) crypto.Signer {
	return tlsKey{g, hsm.Pass, name, pub}
}

type tlsKey struct {
	gate    *Gate
	purpose hsm.Purpose
	name    string
	pub     crypto.PublicKey
}

// Public is the certificate's key.
func (k tlsKey) Public() crypto.PublicKey { return k.pub }

// Sign signs a handshake's digest.
func (k tlsKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	key, err := k.gate.keys.Key(k.name)
	if err != nil {
		return nil, err
	}
	if key.Purpose != k.purpose {
		return nil, fmt.Errorf("sign handshake: key %s is for %s", key.Name, key.Purpose)
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeWithin)
	defer cancel()
	return k.gate.keys.Sign(ctx, k.name, digest, opts)
}
