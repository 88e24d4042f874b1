package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"io"
	"slices"
	"sync"
)

// shown is what a listener's handshakes are given one after the other: a certificate now, and
// another one later. A key that is to be retired must first have signed for every handshake
// that was given its certificate.
type shown struct {
	mu      sync.Mutex
	current *given   // guarded by mu
	leaving []*given // those before it for which a signature may be outstanding; guarded by mu
}

// given is one certificate.
type given struct {
	cert *tls.Certificate
	left int           // handshakes that have not signed yet; guarded by shown.mu
	gone bool          // whether another one is given now; guarded by shown.mu
	over chan struct{} // closed when it is gone and nothing is left
}

// show has handshakes given cert from now on.
func (s *shown) show(cert *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.current; old != nil {
		s.leaving = append(s.leaving, old)
		old.gone = true
		s.settle(old)
	}
	s.current = &given{cert: cert, over: make(chan struct{})}
}

// settle takes note of what is over. The caller holds mu.
func (s *shown) settle(g *given) {
	if g.gone && g.left == 0 {
		close(g.over)
		s.leaving = slices.DeleteFunc(s.leaving, func(other *given) bool { return other == g })
	}
}

// certificate gives the certificate to one handshake.
func (s *shown) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	g := s.current
	g.left++
	s.mu.Unlock()
	done := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		g.left--
		s.settle(g)
	})
	context.AfterFunc(hello.Context(), done) // which ends with the handshake, whatever comes of it
	cert := *g.cert
	if key, ok := cert.PrivateKey.(crypto.Signer); ok {
		cert.PrivateKey = handshakeKey{key, done}
	}
	return &cert, nil
}

// leaf is the certificate that is shown now.
func (s *shown) leaf() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.cert
}

// settled waits until every handshake that was given an earlier certificate has signed.
func (s *shown) settled(ctx context.Context) {
	s.mu.Lock()
	leaving := slices.Clone(s.leaving)
	s.mu.Unlock()
	for _, g := range leaving {
		select {
		case <-g.over:
		case <-ctx.Done():
			return
		}
	}
}

// handshakeKey is a certificate's key for one handshake, which signs once.
type handshakeKey struct {
	crypto.Signer
	done func()
}

// Sign signs the handshake's digest.
func (k handshakeKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer k.done()
	return k.Signer.Sign(rand, digest, opts)
}
