package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"testing"
)

// A certificate has left when every handshake that was given it has signed or ended, and those
// of its successor do not count.
func TestCertificateLeavesWithItsLastHandshake(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first, second := &tls.Certificate{PrivateKey: key}, &tls.Certificate{PrivateKey: key}
	var s shown
	s.show(first)
	begin := func() (*tls.Certificate, func()) {
		// A handshake that never gets further than its first message.
		ours, theirs := net.Pipe()
		got := make(chan *tls.Certificate, 1)
		ctx, cancel := context.WithCancel(context.Background())
		server := tls.Server(ours, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := s.certificate(hello)
			got <- cert
			<-hello.Context().Done()
			return nil, errors.New("no more")
		}})
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.HandshakeContext(ctx) }()
		go func() { _ = tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
		return <-got, func() { cancel(); _ = theirs.Close(); <-ended }
	}
	signing, end := begin()
	defer end()
	_, abandon := begin()
	s.show(second)
	_, later := begin()
	defer later()

	waiting, cancel := context.WithCancel(context.Background())
	cancel()
	s.settled(waiting) // nobody is awaited who does not wait
	left := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for _, g := range s.leaving {
			n += g.left
		}
		return n
	}
	if n := left(); n != 2 {
		t.Fatalf("%d handshakes are outstanding, want 2", n)
	}
	digest := sha256.Sum256([]byte("handshake"))
	if _, err := signing.PrivateKey.(handshakeKey).Sign(rand.Reader, digest[:], nil); err != nil {
		t.Fatal(err)
	}
	if n := left(); n != 1 {
		t.Fatalf("%d handshakes are outstanding, want 1", n)
	}
	abandon()
	s.settled(context.Background())
	if n := left(); n != 0 || s.leaf() != second {
		t.Errorf("%d handshakes are outstanding", n)
	}
}
