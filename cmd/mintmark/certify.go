package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/keycert"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/signer"
)

// certifyOptions are the flags of keys certify.
type certifyOptions struct {
	keys         keysFlags
	name         string
	commonName   string
	organization string
	dns          []string
	days         int
	out          string
	write        bool
}

func keysCertifyCommand() *cobra.Command {
	var o certifyOptions
	c := &cobra.Command{
		Use:   "certify --name NAME --common-name CN",
		Short: "Make a self-signed certificate for a key",
		Long: "Makes a self-signed certificate for a merchant-jwt, proximity-token or api-tls key, signed\n" +
			"in the token and on record, and prints it, or puts it into a file beside the keyring.\n" +
			"Partners ask for the key of merchant JWTs in this form; the service serves it under\n" +
			"/v1/keys/KID/certificate.pem once the keyring names it.\n\n" +
			"A running service holds its SQLite database: give the record of this another one meanwhile,\n" +
			"with MINTMARK_STORE_SQLITE=FILE.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return exit(exitUsage, err)
			}
			return withKeyring(c.Context(), o.keys, o.promote, func(p *plan, t *hsm.Token) error { return certify(c, p, t, o) })
		},
	}
	o.keys.register(c)
	c.Flags().StringVar(&o.name, "name", "", "the key's `name` in the keyring")
	c.Flags().StringVar(&o.commonName, "common-name", "", "the subject's common `name`")
	c.Flags().StringVar(&o.organization, "organization", "", "the subject's `organization`")
	c.Flags().StringSliceVar(&o.dns, "dns", nil, "DNS `names`, for an api-tls key")
	c.Flags().IntVar(&o.days, "days", 730, "for how many `days` it is valid")
	c.Flags().StringVar(&o.out, "out", "", "`file` to make, in the keyring's folder; default: standard output")
	c.Flags().BoolVar(&o.write, "write", false, "name the file in the keyring")
	return c
}

func (o certifyOptions) check() error {
	switch {
	case o.name == "" || o.commonName == "":
		return errors.New("--name and --common-name are needed")
	case o.days < 1 || o.days > 3650:
		return errors.New("--days must be 1 to 3650")
	case o.write && o.out == "":
		return errors.New("--write needs --out")
	case o.out != filepath.Base(o.out) && o.out != "":
		return errors.New("--out is the name of a file in the keyring's folder")
	default:
		return nil
	}
}

// promote is the keyring in which the key is its purpose's active one.
func (o certifyOptions) promote(ring *hsm.Keyring) *hsm.Keyring { return ring.Promoted(o.name) }

func certify(c *cobra.Command, p *plan, t *hsm.Token, o certifyOptions) error {
	if o.out == "" {
		made, err := issue(c.Context(), p, t, o)
		if err != nil {
			return err
		}
		_, err = c.OutOrStdout().Write(made)
		return err
	}
	// The file first: nothing is signed that then has no place.
	path := filepath.Join(filepath.Dir(p.cfg.Keyring), o.out)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // a certificate is public, and not replaced by mistake
	if err != nil {
		return err
	}
	made, err := issue(c.Context(), p, t, o)
	if err == nil {
		_, err = f.Write(made)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Fprintf(c.ErrOrStderr(), "made %s\n", path)
	if !o.write {
		return nil
	}
	for i := range p.keyring.Keys {
		if p.keyring.Keys[i].Name == o.name {
			p.keyring.Keys[i].Certificate = o.out
		}
	}
	return exit(exitConfiguration, p.keyring.Save(p.cfg.Keyring))
}

func issue(ctx context.Context, p *plan, t *hsm.Token, o certifyOptions) (made []byte, err error) {
	s, err := openStore(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, exit(exitStorage, s.Close())) }()
	subject := pkix.Name{CommonName: o.commonName}
	if o.organization != "" {
		subject.Organization = []string{o.organization}
	}
	now := time.Now()
	made, err = keycert.Issue(ctx, audit.New(s, time.Now), signer.New(t), signer.SelfSigned{
		Key: o.name, Subject: subject, DNSNames: o.dns,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, o.days), // clocks differ
	})
	return made, exit(exitHSM, err)
}
