package appletest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Issued is a leaf with its key and the certificates above it: all that the
// simulation needs once the leaf is issued. The keys of root and intermediate are not
// in it, so that nothing can be issued below a root that was written down.
type Issued struct {
	Root, Sub, Leaf *x509.Certificate
	LeafKey         *ecdsa.PrivateKey // nil for an RSA leaf
}

// Chain is what iOS hands the app: leaf and intermediate, in DER.
func (i *Issued) Chain() [][]byte { return [][]byte{i.Leaf.Raw, i.Sub.Raw} }

// ChainPEM is the same as one PEM text.
func (i *Issued) ChainPEM() []byte {
	return append(certificatePEM(i.Leaf), certificatePEM(i.Sub)...)
}

// RootPEM is the root, for a test environment's configuration.
func (i *Issued) RootPEM() []byte { return certificatePEM(i.Root) }

// Open opens a payload sealed to this leaf; see the function Open.
func (i *Issued) Open(ephemeralPublicKey, encrypted []byte) ([]byte, error) {
	if i.LeafKey == nil {
		return nil, ErrOpen
	}
	return Open(i.LeafKey, ephemeralPublicKey, encrypted)
}

// Files are the paths of an Issued on disk, all PEM.
type Files struct {
	RootCert, SubCert, LeafCert string
	LeafKey                     string // PKCS#8, mode 0600
}

// FilesIn names the files of an Issued under dir.
func FilesIn(dir string) Files {
	return Files{
		RootCert: filepath.Join(dir, "apple-root.pem"),
		SubCert:  filepath.Join(dir, "apple-sub.pem"),
		LeafCert: filepath.Join(dir, "apple-leaf.pem"),
		LeafKey:  filepath.Join(dir, "apple-leaf.key.pem"),
	}
}

// WriteDir writes the four files under dir, which it makes if need be. Each file is
// replaced whole; a crash between two of them leaves a directory that ReadDir
// refuses with ErrMixed or fs.ErrNotExist, and that is written again without loss.
func (i *Issued) WriteDir(dir string) error {
	if i.LeafKey == nil || i.LeafKey.Curve != elliptic.P256() {
		return errors.New("write simulated Apple certificates: only a leaf on P-256 is kept")
	}
	key, err := x509.MarshalPKCS8PrivateKey(i.LeafKey)
	if err != nil {
		return fmt.Errorf("write simulated Apple certificates: %w", err)
	}
	defer clear(key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write simulated Apple certificates: %w", err)
	}
	files := FilesIn(dir)
	for _, f := range []struct {
		path    string
		mode    os.FileMode
		content []byte
	}{
		{files.RootCert, 0o644, i.RootPEM()},
		{files.SubCert, 0o644, certificatePEM(i.Sub)},
		{files.LeafKey, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})},
		{files.LeafCert, 0o644, certificatePEM(i.Leaf)},
	} {
		if err := replaceFile(f.path, f.mode, f.content); err != nil {
			return fmt.Errorf("write simulated Apple certificates: %w", err)
		}
	}
	return nil
}

// ErrMixed is returned for a directory whose files do not belong together.
var ErrMixed = errors.New("the files of the simulated Apple chain do not belong together")

// ReadDir reads what WriteDir wrote. The error wraps fs.ErrNotExist if a file is
// missing. Dates are not checked: a policy does that, and the caller who finds the
// leaf ended makes a new authority.
func ReadDir(dir string) (*Issued, error) {
	files := FilesIn(dir)
	var i Issued
	for _, f := range []struct {
		path string
		into **x509.Certificate
	}{{files.RootCert, &i.Root}, {files.SubCert, &i.Sub}, {files.LeafCert, &i.Leaf}} {
		cert, err := readCertificate(f.path)
		if err != nil {
			return nil, err
		}
		*f.into = cert
	}
	key, err := readKey(files.LeafKey)
	if err != nil {
		return nil, err
	}
	i.LeafKey = key
	if i.Sub.CheckSignatureFrom(i.Root) != nil || i.Leaf.CheckSignatureFrom(i.Sub) != nil || !key.PublicKey.Equal(i.Leaf.PublicKey) {
		return nil, fmt.Errorf("%w: %s", ErrMixed, dir)
	}
	return &i, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	der, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: not a private key in PKCS#8", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: not an EC key on P-256", path)
	}
	return key, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s: not one PEM block %s", path, kind)
	}
	return block.Bytes, nil
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// replaceFile writes beside path and renames over it.
func replaceFile(path string, mode os.FileMode, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".apple-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
