package hsm

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// maxCertificate bounds a certificate file in bytes: a leaf and a few intermediates.
const maxCertificate = 64 << 10

// Certified reports whether others issue certificates for keys of the purpose.
func (p Purpose) Certified() bool {
	return p == Pass || p == APITLS || p == MerchantJWT || p == ProximityToken
}

// Chain gives the key's certificate and then its intermediates, each issued by the one
// that follows. Whether they are valid at the moment is not said. It is nil if the entry
// names no certificate, or was not read by LoadKeyring.
func (k Key) Chain() []*x509.Certificate { return slices.Clone(k.chain) }

// readCertificates reads the certificates of the keys whose entries are in order. The
// paths are relative to dir.
func (r *Keyring) readCertificates(dir string) error {
	var wrong []error
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Certificate == "" || len(k.check()) != 0 {
			continue
		}
		chain, err := readChain(filepath.Join(dir, k.Certificate))
		if err == nil {
			err = k.answers(chain[0])
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("keys[%d] (%s): certificate %s: %w", i, k.Name, k.Certificate, err))
			continue
		}
		k.chain = chain
	}
	return errors.Join(wrong...)
}

// answers reports a certificate that is not for the key that each of the pins is for.
func (k Key) answers(leaf *x509.Certificate) error {
	got, err := spkiPin(leaf.PublicKey)
	if err != nil {
		return err
	}
	if len(k.Pins) == 0 {
		return errors.New("the key has no pin to compare it with")
	}
	for _, member := range slices.Sorted(maps.Keys(k.Pins)) {
		if k.Pins[member] != got {
			return fmt.Errorf("it is not for the key that pins.%s is for", member)
		}
	}
	return nil
}

// ParseChain reads a certificate and its intermediates as they come from a CA: PEM, each
// issued by the one that follows, or one certificate in DER.
func ParseChain(b []byte) ([]*x509.Certificate, error) {
	if c, err := x509.ParseCertificate(b); err == nil {
		return []*x509.Certificate{c}, nil
	}
	return parseChain(b)
}

// CheckCertificate reports a certificate that is not for the key, or is over at a time.
func (k Key) CheckCertificate(leaf *x509.Certificate, now time.Time) error {
	if !k.Algorithm.Public() {
		return fmt.Errorf("key %s is a %s key, which has no certificate", k.Name, k.Algorithm)
	}
	if err := k.answers(leaf); err != nil {
		return err
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("it ended on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

func readChain(path string) ([]*x509.Certificate, error) {
	b, err := readFile(path, maxCertificate)
	if err != nil {
		return nil, err
	}
	return parseChain(b)
}

// parseChain reads PEM certificates (RFC 7468, 5.1) of which each is issued by the one
// that follows, and nothing else: pem.Decode alone would step over what it does not
// understand.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(b); len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil || !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) || len(block.Headers) != 0 ||
			bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN ")) != 1 {
			return nil, fmt.Errorf("what follows %d certificates is no PEM certificate", len(chain))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be parsed", len(chain)+1)
		}
		chain = append(chain, c)
		rest = bytes.TrimSpace(after)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	for i, c := range chain[:len(chain)-1] {
		if c.CheckSignatureFrom(chain[i+1]) != nil {
			return nil, fmt.Errorf("certificate %d is not issued by the one that follows it", i+1)
		}
	}
	return chain, nil
}
