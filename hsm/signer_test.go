package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

// The whole way of a TLS certificate: the key is made in the token and certifies itself
// through a Signer, the keyring names the certificate, and listeners shake hands with what
// the keyring gives.
func TestHandshakesWithAKeyOfTheToken(t *testing.T) {
	on := softhsm.New(t)
	maker := open(t, on, ringOf())
	key, _, err := maker.Generate(context.Background(), NewKey{Name: "api", Purpose: APITLS}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	shut(t, maker)

	key.Pins["a"] = key.Pins[member]
	bare := open(t, on, ringOf(key))
	signer, err := bare.Signer(context.Background(), key.Name)
	if err != nil {
		t.Fatal(err)
	}
	certificate := issue(t, "api.test", nil, signer.Public(), signer)
	shut(t, bare)

	key.Certificate = "api.pem"
	ring, err := LoadKeyring(write(t, ringOf(key), "api.pem", inPEM(certificate)))
	if err != nil {
		t.Fatal(err)
	}
	one, set := open(t, on, ring), start(t, ring, map[string]*softhsm.Token{"a": on})
	for name, keys := range map[string]interface {
		Active(Purpose) (Key, error)
		Signer(context.Context, string) (crypto.Signer, error)
	}{"a token": one, "an HSM": set} {
		active, err := keys.Active(APITLS)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := keys.Signer(context.Background(), active.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				state := handshake(t, version, active.Chain(), signer)
				if state.Version != version || !state.PeerCertificates[0].Equal(certificate) {
					t.Errorf("handshake of %s with %v", tls.VersionName(state.Version), state.PeerCertificates[0].Subject)
				}
			})
		}
	}
}

// handshake has a client that trusts the chain meet a server that has the key.
func handshake(t *testing.T, version uint16, chain []*x509.Certificate, signer crypto.Signer) tls.ConnectionState {
	t.Helper()
	own := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	roots := x509.NewCertPool()
	for _, c := range chain {
		own.Certificate = append(own.Certificate, c.Raw)
		roots.AddCert(c)
	}
	here, there := net.Pipe()
	server := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: version, MaxVersion: version})
	client := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: chain[0].DNSNames[0], MinVersion: version, MaxVersion: version})
	served := make(chan error, 1)
	go func() {
		_, err := io.WriteString(server, "well")
		served <- errors.Join(err, server.Close())
	}()
	said, err := io.ReadAll(client)
	if err != nil || string(said) != "well" {
		t.Errorf("the client read %q, %v", said, err)
	}
	if err := <-served; err != nil {
		t.Errorf("the server: %v", err)
	}
	_ = client.Close()
	return client.ConnectionState()
}

func TestSignerIsOneOfTheStandardLibrarys(t *testing.T) {
	on := softhsm.New(t)
	tav, proximity, api := signers(t, on)
	tok := open(t, on, ringOf(tav, proximity, api))
	for _, k := range []Key{tav, proximity, api} {
		signer, err := tok.Signer(context.Background(), k.Name)
		if err != nil {
			t.Fatal(err)
		}
		if pinOf(t, signer.Public()) != k.Pins[member] {
			t.Errorf("%s: Public is %v", k.Name, signer.Public())
		}
		for _, random := range []io.Reader{rand.Reader, nil} {
			sig, err := signer.Sign(random, sha("message"), crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			requireVerifies(t, signer.Public(), crypto.SHA256, sha("message"), sig)
		}
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		if sig, err := signer.Sign(rand.Reader, sha("message"), pss); err == nil {
			t.Errorf("%s signed %x by PSS", k.Name, sig)
		}
	}
}

// Who would not sign is told so at once, and not at the first handshake.
func TestKeyThatDoesNotSignIsNoSigner(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, _ := stock(t, on)
	next := stockEC(t, on, "next", APITLS)
	next.State, tav.State = Next, Retired
	keys := []Key{tav, vault, next, entry("missing", ProximityToken)}
	for i := range keys {
		keys[i] = pinnedOn(keys[i])
	}
	set := start(t, ringOf(keys...), map[string]*softhsm.Token{"a": on})
	for _, keys := range []interface {
		Signer(context.Context, string) (crypto.Signer, error)
	}{set, set.Members()[0]} {
		for name, want := range map[string]KeyProblem{tav.Name: KeyRetired, next.Name: KeyNext, "missing": KeyMissing, "nobody": KeyNotListed} {
			_, err := keys.Signer(context.Background(), name)
			requireKeyError(t, err, name, want)
		}
		if s, err := keys.Signer(context.Background(), vault.Name); err == nil {
			t.Errorf("an AES key is the signer %v", s)
		}
	}
}

// A signature has its context's time, and never more than a call may take: with all places
// taken for good it still ends.
func TestSignerDoesNotWaitForEver(t *testing.T) {
	on := softhsm.New(t)
	_, _, api := signers(t, on)
	tok := open(t, on, ringOf(api))
	if err := tok.tls.slots.Acquire(context.Background(), tlsConcurrency); err != nil {
		t.Fatal(err)
	}
	within := tok.cfg.CallTimeout
	tok.cfg.CallTimeout = 100 * time.Millisecond // of the waiting alone: the token is asked for nothing meanwhile
	for name, ctx := range map[string]context.Context{"no deadline": context.Background(), "a deadline that has passed": expired()} {
		signer, err := tok.Signer(ctx, api.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signer.Sign(rand.Reader, sha("message"), crypto.SHA256); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: error is %v, want ErrBusy", name, err)
		}
	}
	tok.cfg.CallTimeout = within
	tok.tls.slots.Release(tlsConcurrency)
	requireSigns(t, tok, api.Name)
}

// A Signer is good for as long as the process: through a token's absence, and also when it
// is made during one.
func TestSignerOutlivesTheEpoch(t *testing.T) {
	on := softhsm.New(t)
	_, _, api := signers(t, on)
	shim(t, on)
	h := start(t, ringOf(pinnedOn(api)), map[string]*softhsm.Token{"a": on})
	before, err := h.Signer(context.Background(), api.Name)
	if err != nil {
		t.Fatal(err)
	}
	end := misbehave(t, on, "lost")
	var gone *DownError
	if _, err := before.Sign(rand.Reader, sha("message"), crypto.SHA256); !errors.As(err, &gone) {
		t.Fatalf("signed on a lost token: %v", err)
	}
	down(h.Members()[0])
	during, err := h.Signer(context.Background(), api.Name)
	if err != nil {
		t.Fatal(err)
	}
	end()
	until(func() bool { return h.Ready() == nil })
	for _, signer := range []crypto.Signer{before, during} {
		sig, err := signer.Sign(rand.Reader, sha("message"), crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		requireVerifies(t, signer.Public(), crypto.SHA256, sha("message"), sig)
	}
}
