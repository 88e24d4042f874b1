package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/signer"
)

// handshake connects a client to a server with the certificate, and gives the client's and
// the server's errors.
func handshake(t *testing.T, cert tls.Certificate, client *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		srv := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		err := srv.HandshakeContext(t.Context())
		if err != nil {
			_ = there.Close()
		}
		ended <- err
	}()
	c := tls.Client(here, client)
	clientErr = c.HandshakeContext(t.Context())
	serverErr = <-ended
	state = c.ConnectionState()
	_, _ = here.Close(), there.Close()
	return state, clientErr, serverErr
}

func TestHandshakeIsSignedInTheToken(t *testing.T) {
	token := withoutCards(t)
	gate := signer.New(token.Token)
	leaf := mustSelfSign(t, gate, selfSigned(hsm.APITLS))
	key := gate.TLSKey(string(hsm.APITLS), leaf.PublicKey)
	if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
		t.Error("another public key")
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.3": func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 },
		"TLS 1.2": func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
	} {
		t.Run(name, func(t *testing.T) {
			before := token.CallsOf("sign")
			client := &tls.Config{RootCAs: roots, ServerName: "mint.example", Time: func() time.Time { return today }}
			change(client)
			state, clientErr, serverErr := handshake(t, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, client)
			if clientErr != nil || serverErr != nil || !bytes.Equal(state.PeerCertificates[0].Raw, leaf.Raw) {
				t.Errorf("client %v, server %v", clientErr, serverErr)
			}
			if n := token.CallsOf("sign") - before; n != 1 {
				t.Errorf("the token signed %d times", n)
			}
		})
	}
}

// A handshake's key signs what its peer chose in part: no other key may stand in its place.
func TestOnlyTLSKeysSignHandshakes(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	digest := sha256.Sum256([]byte("digest"))
	for _, p := range hsm.Purposes() {
		sig, err := gate.TLSKey(string(p), nil).Sign(rand.Reader, digest[:], crypto.SHA256)
		if (err == nil) != (p == hsm.APITLS) || (sig == nil) != (err != nil) {
			t.Errorf("%s: %d bytes, %v", p, len(sig), err)
		}
	}
	var unusable *hsm.KeyError
	if _, err := gate.TLSKey("nobody", nil).Sign(rand.Reader, digest[:], crypto.SHA256); !errors.As(err, &unusable) {
		t.Errorf("a key that nobody listed: %v", err)
	}
	if _, err := gate.TLSKey(string(hsm.APITLS), nil).Sign(rand.Reader, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}); err == nil {
		t.Error("RSASSA-PSS with a P-256 key")
	}
	if n := token.Calls() - token.CallsOf("sign"); n != 0 {
		t.Errorf("the token was asked %d times for something else", n)
	}
}

// The listener is there while the token is not; handshakes fail, and say nothing to the peer.
func TestHandshakeFailsWhileTheTokenIsAway(t *testing.T) {
	token := withoutCards(t)
	gate := signer.New(token.Token)
	leaf := mustSelfSign(t, gate, selfSigned(hsm.APITLS))
	if err := token.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	cert := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: gate.TLSKey(string(hsm.APITLS), leaf.PublicKey), Leaf: leaf}
	_, clientErr, serverErr := handshake(t, cert, &tls.Config{RootCAs: roots, ServerName: "mint.example", Time: func() time.Time { return today }})
	if clientErr == nil || strings.Contains(clientErr.Error(), "token") || serverErr == nil || !strings.Contains(serverErr.Error(), hsm.ErrClosed.Error()) {
		t.Errorf("client %v, server %v", clientErr, serverErr)
	}
}
