package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/signer"
)

func clientsCommand() *cobra.Command {
	return group("clients", "Look at who may call", clientsCheckCommand())
}

func clientsCheckCommand() *cobra.Command {
	var path string
	var o checkOptions
	c := &cobra.Command{
		Use:   "check TOKEN|CERT",
		Short: "Explain, offline, how a bearer token or a client certificate is decided",
		Long: "Goes the way of a request and says each step: which client, which key, what holds and\n" +
			"what does not, and then each right, granted or not. TOKEN is a bearer token, a file\n" +
			"that holds one, or - for standard input, which keeps it from other users of this\n" +
			"machine. CERT is a PEM file with a client's certificate.\n\n" +
			"Nothing is asked of the HSM, and nothing fetched: for a client that publishes a JWK set,\n" +
			"give it with --jwks. Merchant JWTs signed here are verified with the certificate that\n" +
			"the keyring names for their key. Exit status 1 if the caller is refused.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			now, err := parseTime(o.at)
			if err != nil {
				return exit(exitUsage, err)
			}
			proof, err := readProof(c.InOrStdin(), args[0], o.certificate)
			if err != nil {
				return exit(exitUsage, err)
			}
			p, err := loadPlan(path)
			if err != nil {
				return err
			}
			p.clients.close(nil)
			sources := clientSources{own: certifiedKeys{p.keyring}, fetch: fileFetcher(o.jwks), now: func() time.Time { return now }}
			callers, err := loadClients(p.cfg, sources)
			if err != nil {
				return exit(exitConfiguration, err)
			}
			defer callers.close(nil)
			if len(proof.Certificates) > 0 {
				modes(c.OutOrStdout(), p.cfg)
			}
			return explain(c.Context(), c.OutOrStdout(), callers, proof)
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&o.certificate, "certificate", "", "PEM `file` with the certificate of the connection over which TOKEN comes")
	c.Flags().StringVar(&o.jwks, "jwks", "", "`file` with the JWK set of a client that has a jwksURL")
	c.Flags().StringVar(&o.at, "at", "", "decide as at this `time` (RFC 3339); default: now")
	return c
}

type checkOptions struct{ certificate, jwks, at string }

// fileFetcher reads every JWK set from one file.
type fileFetcher string

// Get reads the file.
func (f fileFetcher) Get(context.Context, string, string) (access.Fetched, error) {
	if f == "" {
		return access.Fetched{}, errors.New("nothing is fetched here: give the set with --jwks")
	}
	b, err := os.ReadFile(string(f))
	return access.Fetched{Body: b}, err
}

func parseTime(at string) (time.Time, error) {
	if at == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, errors.New("--at must be a time such as 2026-11-22T12:00:00Z")
	}
	return t, nil
}

// maxProof bounds what is read as a token or certificate, in bytes.
const maxProof = 64 << 10

// readProof reads what a caller would prove itself with.
func readProof(stdin io.Reader, arg, certificate string) (access.Proof, error) {
	var proof access.Proof
	if certificate != "" {
		var err error
		if proof.Certificates, err = loadCertificates(certificate); err != nil {
			return proof, err
		}
	}
	text := arg
	if from, err := os.Open(arg); arg == "-" || err == nil {
		if err == nil {
			defer func() { _ = from.Close() }()
			stdin = from
		}
		b, err := io.ReadAll(io.LimitReader(stdin, maxProof))
		if err != nil {
			return proof, err
		}
		text = string(b)
	}
	if strings.Contains(text, "-----BEGIN") {
		if certificate != "" {
			return proof, errors.New("--certificate goes with a token")
		}
		var err error
		proof.Certificates, err = parseCertificates([]byte(text))
		return proof, err
	}
	token := strings.TrimSpace(text)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = rest
	}
	proof.Authorization = []string{"Bearer " + token}
	return proof, nil
}

// modes says where certificates count at all: it depends on the listener and the role.
func modes(out io.Writer, cfg *config.Config) {
	for _, l := range cfg.Listeners() {
		for _, role := range l.Roles {
			mode := "off"
			if l.TLS != nil {
				mode = cmp.Or(l.TLS.ClientCertificates[role], mode)
			}
			fmt.Fprintf(out, "%s: certificates of callers of the role %s: %s\n", l.Name, role, mode)
		}
	}
	fmt.Fprintln(out)
}

// explain prints the steps of a decision.
func explain(ctx context.Context, out io.Writer, callers *clients, proof access.Proof) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	refused := ""
	for _, step := range callers.verifier.Explain(ctx, proof) {
		mark := "ok"
		if !step.OK {
			mark = "no"
			if !strings.HasPrefix(step.Name, "right") && refused == "" {
				refused = step.Name
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, step.Name, step.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if refused != "" {
		return fmt.Errorf("refused at %s", refused)
	}
	return nil
}

// certifiedKeys are the keys of merchant JWTs signed here, from the keyring's certificates.
type certifiedKeys struct{ ring *hsm.Keyring }

// Key gives the merchant-jwt key called kid.
func (c certifiedKeys) Key(_ context.Context, kid string) (access.Key, error) {
	for _, k := range c.ring.Listed(hsm.MerchantJWT) {
		chain := k.Chain()
		if len(chain) == 0 {
			continue
		}
		if id, err := signer.KeyID(chain[0].PublicKey); err == nil && id == kid {
			return access.Key{ID: kid, Algorithm: access.RS256, Public: chain[0].PublicKey}, nil
		}
	}
	return access.Key{}, access.ErrUnknownKey
}
