package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/keycert"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/ceremony"
	"github.com/mintmark/mintmark/signer"
)

// subjectFlags are the flags that say whom a certificate is for.
type subjectFlags struct{ commonName, organization, unit, country, email string }

func (f subjectFlags) name() pkix.Name {
	n := pkix.Name{CommonName: f.commonName}
	for _, part := range []struct {
		value string
		to    *[]string
	}{{f.organization, &n.Organization}, {f.unit, &n.OrganizationalUnit}, {f.country, &n.Country}} {
		if part.value != "" {
			*part.to = []string{part.value}
		}
	}
	return n
}

func keysCSRCommand() *cobra.Command {
	var f keysFlags
	var subject subjectFlags
	var dns []string
	var out string
	c := &cobra.Command{
		Use:   "csr NAME --common-name CN",
		Short: "Make a request for a certificate (PKCS#10) for a key",
		Long: "Makes a request for a certificate for a pass, api-tls, merchant-jwt or proximity-token\n" +
			"key that is active or next, signed by the key in the token and on record, and prints\n" +
			"it in PEM. Apple's portal takes it for a pass type; a CA for a TLS key. What comes back\n" +
			"is taken up with mintmark keys import-certificate.\n\n" +
			"A running service holds its SQLite database: give the record of this another one meanwhile,\n" +
			"with MINTMARK_STORE_SQLITE=FILE.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if subject.commonName == "" {
				return exit(exitUsage, errors.New("--common-name is needed"))
			}
			r := signer.RequestFor{Key: args[0], Subject: subject.name(), Email: subject.email, DNSNames: dns}
			promote := func(ring *hsm.Keyring) *hsm.Keyring { return ring.Promoted(r.Key) }
			return withKeyring(c.Context(), f, promote, func(p *plan, t *hsm.Token) error {
				return intoFile(c, out, func() ([]byte, error) { return requestCertificate(c.Context(), p, t, r) })
			})
		},
	}
	f.register(c)
	c.Flags().StringVar(&subject.commonName, "common-name", "", "the subject's common `name`")
	c.Flags().StringVar(&subject.organization, "organization", "", "the subject's `organization`")
	c.Flags().StringVar(&subject.unit, "unit", "", "the subject's organizational `unit`")
	c.Flags().StringVar(&subject.country, "country", "", "the subject's country, two `letters`")
	c.Flags().StringVar(&subject.email, "email", "", "an e-mail `address`")
	c.Flags().StringSliceVar(&dns, "dns", nil, "DNS `names`, for an api-tls key")
	c.Flags().StringVar(&out, "out", "", "`file` to make; default: standard output")
	return c
}

// intoFile gives what is made to standard output, or to a file that is not there yet. The
// file first: nothing is made that then has no place.
func intoFile(c *cobra.Command, path string, make func() ([]byte, error)) error {
	if path == "" {
		b, err := make()
		if err != nil {
			return err
		}
		_, err = c.OutOrStdout().Write(b)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // public, and not replaced by mistake
	if err != nil {
		return err
	}
	b, err := make()
	if err == nil {
		_, err = f.Write(b)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Fprintf(c.ErrOrStderr(), "made %s\n", path)
	return nil
}

func requestCertificate(ctx context.Context, p *plan, t *hsm.Token, r signer.RequestFor) (made []byte, err error) {
	s, err := openStore(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, exit(exitStorage, s.Close())) }()
	made, err = keycert.Request(ctx, audit.New(s, time.Now), signer.New(t), r)
	return made, exit(exitHSM, err)
}

func keysImportCertificateCommand() *cobra.Command {
	var path, out string
	var write bool
	c := &cobra.Command{
		Use:   "import-certificate NAME FILE",
		Short: "Take up a key's certificate from a CA, after comparing it with the key",
		Long: "Reads a certificate with its intermediates (PEM), or one certificate (DER, as Apple's\n" +
			"portal gives it), makes sure that it is for the key that the keyring pins and is not\n" +
			"over, and puts it beside the keyring; with --write the keyring names it. Nothing is asked\n" +
			"of a token.\n\n" +
			"A pass certificate needs the intermediate that issued it. Apple's G4 is known here; another\n" +
			"must stand behind it in the file, or it is refused. With an api-tls certificate that stands\n" +
			"alone a warning is given.",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := loadKeysPlan(path)
			if err != nil {
				return err
			}
			chain, err := checkedChain(p.keyring, args[0], args[1], time.Now())
			if err != nil {
				return exit(exitConfiguration, err)
			}
			k, _ := p.keyring.Find(args[0])
			warnAlone(c.ErrOrStderr(), k.Purpose, chain)
			name := out
			if name == "" {
				name = certificateFile(args[0], chain[0])
			}
			if name != filepath.Base(name) {
				return exit(exitUsage, errors.New("--out is the name of a file in the keyring's folder"))
			}
			if err := intoFile(c, filepath.Join(filepath.Dir(p.cfg.Keyring), name), func() ([]byte, error) { return chainPEM(chain), nil }); err != nil || !write {
				return err
			}
			for i := range p.keyring.Keys {
				if p.keyring.Keys[i].Name == args[0] {
					p.keyring.Keys[i].Certificate = name
				}
			}
			return exit(exitConfiguration, p.keyring.Save(p.cfg.Keyring))
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&out, "out", "", "`file` to make, in the keyring's folder; default: the key's name with a part of the certificate's digest")
	c.Flags().BoolVar(&write, "write", false, "name the file in the keyring")
	return c
}

// checkedChain reads a certificate for a key of the keyring.
func checkedChain(ring *hsm.Keyring, key, path string, now time.Time) ([]*x509.Certificate, error) {
	k, ok := ring.Find(key)
	if !ok {
		return nil, &hsm.KeyError{Name: key, Problem: hsm.KeyNotListed}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ceremony.CheckedChain(b, path, k, now)
}

// warnAlone says so where a listener would give its callers a certificate without an
// intermediate that it may need. One that signed itself has none.
func warnAlone(to io.Writer, p hsm.Purpose, chain []*x509.Certificate) {
	if leaf := chain[0]; p == hsm.APITLS && len(chain) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		fmt.Fprintf(to, "warning: the certificate stands alone: if its issuer, %s, is an intermediate, callers refuse it; import both in one PEM file\n", leaf.Issuer)
	}
}

// certificateFile is what a certificate's file is called: a renewed one has another name.
func certificateFile(key string, leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return key + "-" + hex.EncodeToString(sum[:4]) + ".crt"
}

func chainPEM(chain []*x509.Certificate) (text []byte) {
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
