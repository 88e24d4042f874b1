package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/devdir"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
)

func demoCommand() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use: "demo", Short: "Run the client's journey against a running development server", Args: cobra.NoArgs,
		Long: "Plays issuer backend, iPhone, Apple, merchant and wallet against a running mintmark dev, checks\n" +
			"every answer with code that shares nothing with the server's, and stops at the first\n" +
			"fault.",
		RunE: func(c *cobra.Command, _ []string) error {
			info, err := devdir.ReadInfo(data)
			if err != nil {
				return err
			}
			return newDemo(c.OutOrStdout(), info).run(c.Context())
		},
	}
	dataFlag(c, &data)
	return c
}

// demo is one journey.
type demo struct {
	out  io.Writer
	info devdir.Info
	http *http.Client

	certificates []string
	nonce        string
	signature    string
	answer       signedCard
	payload      map[string]string
}

// step is one thing that is done and checked.
type step struct {
	what string
	do   func(context.Context) error
}

// signedCard is the answer as an app decodes it.
type signedCard struct {
	ActivationData     string `json:"activationData"`
	EphemeralPublicKey string `json:"ephemeralPublicKey"`
	EncryptedData      string `json:"encryptedData"`
}

func newDemo(out io.Writer, info devdir.Info) *demo {
	return &demo{out: out, info: info, http: &http.Client{Timeout: 30 * time.Second}}
}

func (d *demo) run(ctx context.Context) error {
	steps := []step{
		{"server is ready", d.ready},
		{"iPhone hands over Apple's certificates, a nonce and its signature", d.phone},
		{"issuer backend has the card sealed", d.seal},
		{"Apple opens the sealed payload", d.open},
		{"payload is the one that was asked for", d.check},
		{"network verifies the activation data", d.activation},
		{"the same nonce again is refused", d.replay},
		{"a chain without Apple's marker in the right place is refused", d.swapped},
		{"somebody else's card looks like none", d.unknown},
		{"without a token nothing is told", d.anonymous},
	}
	steps = append(steps, (&cardJourney{demo: d}).steps()...)
	steps = append(steps, (&walletJourney{cardJourney: cardJourney{demo: d}}).steps()...)
	steps = append(steps, (&merchantJourney{demo: d}).steps()...)
	steps = append(steps, (&passJourney{demo: d}).steps()...)
	for i, s := range steps {
		if err := s.do(ctx); err != nil {
			fmt.Fprintf(d.out, "%2d. FAILED  %s\n", i+1, s.what)
			return fmt.Errorf("step %d, %s: %w", i+1, s.what, err)
		}
		fmt.Fprintf(d.out, "%2d. ok      %s\n", i+1, s.what)
	}
	return nil
}

func (d *demo) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.info.AdminURL+"/readyz", nil)
	if err != nil {
		return err
	}
	status, _, err := d.do(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("readyz answered %d", status)
	}
	return err
}

// phone is what PKAddPaymentPassViewController gives the app.
func (d *demo) phone(context.Context) error {
	for _, path := range []string{d.info.Apple.LeafCert, d.info.Apple.SubCert} {
		block, err := readPEM(path)
		if err != nil {
			return err
		}
		d.certificates = append(d.certificates, base64.StdEncoding.EncodeToString(block))
	}
	b := make([]byte, 4+80)
	_, _ = rand.Read(b)
	d.nonce, d.signature = hex.EncodeToString(b[:4]), "40"+hex.EncodeToString(b[4:])
	return nil
}

func (d *demo) request() map[string]any {
	return map[string]any{
		"externalCardId": d.info.Cards[0].ExternalCardID,
		"certificates":   d.certificates,
		"nonce":          d.nonce,
		"nonceSignature": d.signature,
		"walletType":     "APPLE_PAY",
	}
}

func (d *demo) seal(ctx context.Context) error {
	status, body, err := d.post(ctx, d.request(), true)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("answered %d: %s", status, body)
	}
	return json.Unmarshal(body, &d.answer)
}

// open is Apple's server: appletest shares no code with the sealing side.
func (d *demo) open(context.Context) error {
	apple, err := appletest.ReadDir(filepath.Dir(d.info.Apple.LeafCert))
	if err != nil {
		return err
	}
	point, err := base64.StdEncoding.DecodeString(d.answer.EphemeralPublicKey)
	if err != nil {
		return err
	}
	encrypted, err := base64.StdEncoding.DecodeString(d.answer.EncryptedData)
	if err != nil {
		return err
	}
	clear, err := apple.Open(point, encrypted)
	if err != nil {
		return err
	}
	return json.Unmarshal(clear, &d.payload)
}

func (d *demo) check(context.Context) error {
	want := map[string]string{
		"nonce": d.nonce, "nonceSignature": d.signature, "productType": "DEFAULT_MASTERCARD", "version": "1",
	}
	for member, value := range want {
		if d.payload[member] != value {
			return fmt.Errorf("%s is not what was asked for", member)
		}
	}
	if !strings.HasSuffix(d.payload["primaryAccountNumber"], d.info.Cards[0].Last4) {
		return errors.New("primaryAccountNumber is another card's")
	}
	if d.payload["name"] == "" || len(d.payload["expiration"]) != 5 || len(d.payload) != 7 {
		return errors.New("members are missing or too many")
	}
	return nil
}

// activation is the network: it knows the card and the issuer's public key.
func (d *demo) activation(context.Context) error {
	raw, err := base64.StdEncoding.DecodeString(d.answer.ActivationData)
	if err != nil {
		return err
	}
	var tav struct {
		Version, SignatureAlgorithm, DataValidUntilTimestamp, IncludedFieldsInOrder, Signature string
	}
	if err := json.Unmarshal(raw, &tav); err != nil {
		return err
	}
	until, err := time.Parse(time.RFC3339, tav.DataValidUntilTimestamp)
	if err != nil || time.Until(until) <= 0 || time.Until(until) > 30*24*time.Hour {
		return fmt.Errorf("dataValidUntilTimestamp %q is not within 30 days", tav.DataValidUntilTimestamp)
	}
	values := map[string]string{
		"accountNumber":           d.payload["primaryAccountNumber"],
		"accountExpiry":           strings.Replace(d.payload["expiration"], "/", "", 1),
		"dataValidUntilTimestamp": tav.DataValidUntilTimestamp,
	}
	var signed []string
	for _, field := range strings.Split(tav.IncludedFieldsInOrder, "|") {
		signed = append(signed, values[field])
	}
	der, err := readPEM(tavKeyFile(d.info))
	if err != nil {
		return err
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return err
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return errors.New("the TAV key is no RSA key")
	}
	signature, err := base64.StdEncoding.DecodeString(tav.Signature)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(strings.Join(signed, "|")))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
}

func (d *demo) replay(ctx context.Context) error {
	return d.refused(ctx, d.request(), true, http.StatusConflict)
}

func (d *demo) swapped(ctx context.Context) error {
	r := d.request()
	r["certificates"] = []string{d.certificates[1], d.certificates[0]}
	return d.refused(ctx, r, true, http.StatusUnprocessableEntity)
}

func (d *demo) unknown(ctx context.Context) error {
	r := d.request()
	r["externalCardId"] = "somebody-elses"
	r["nonce"] = "00000000"
	return d.refused(ctx, r, true, http.StatusNotFound)
}

func (d *demo) anonymous(ctx context.Context) error {
	return d.refused(ctx, d.request(), false, http.StatusUnauthorized)
}

func (d *demo) refused(ctx context.Context, body map[string]any, authenticated bool, want int) error {
	status, answer, err := d.post(ctx, body, authenticated)
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("answered %d instead of %d: %s", status, want, answer)
	}
	return nil
}

func (d *demo) post(ctx context.Context, body map[string]any, authenticated bool) (int, []byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.info.BaseURL+"/issuer/push-provisioning/signed-cards", bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if authenticated {
		token, err := d.info.Clients.Issuer.Sign(time.Now())
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return d.do(req)
}

func (d *demo) do(req *http.Request) (int, []byte, error) {
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
