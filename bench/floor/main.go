// Command floor is the least that a Go service can do for a request, to hold mintmark against
// in the same run: net/http, the bearer token verified by golang-jwt, the request's calls of
// PKCS#11 in one call of C, a short answer. With a record it does what makes an output
// accountable as well, also at its least: the signature is verified, and rows are committed
// to SQLite, those that wait sharing a transaction, one before an output leaves, and for a
// card one before its nonce is used.
//
// It has no strict decoding, no rights, no recovery, no metrics, no request log, no Merkle
// tree; it finds no card and seals none: its work in the token is on samples. It is nothing
// to deploy.
//
//	floor CONFIG.json
//
// It prints the address that it listens on.
package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/bench/least"
	"github.com/mintmark/mintmark/bench/raw"
	"github.com/mintmark/mintmark/internal/secret"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// config is the command's file. Keys are files in PEM, CKA_IDs hexadecimal.
type config struct {
	Module, TokenLabel, PINFile string
	Sessions                    int               // of each work
	Lengths                     bool              // C_Sign is asked for lengths first
	Clients                     map[string]string // by iss, the keys of their bearer tokens
	MerchantJWT, ProximityToken key               // none: the work is not done
	TAVSigning                  key
	CardIndexID, CardVaultID    string
	Intermediate                string // the certificate that a card's leaf is verified by, PEM
	Record                      string // the SQLite file; empty: no record and no verification
}

// key is a key pair of the token.
type key struct{ ID, Public string }

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("one argument is needed: the configuration")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	s, err := newServer(c)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return (&http.Server{Handler: s.mux(), ReadHeaderTimeout: time.Minute}).Serve(l)
}

type server struct {
	clients map[string]crypto.PublicKey
	log     *least.Log // nil without a record

	merchant, proximity, tav signing
	intermediate             *x509.Certificate
}

// signing is a work that ends in a signature.
type signing struct {
	sessions *raw.Sessions
	public   crypto.PublicKey
}

func newServer(c config) (*server, error) {
	pin, err := secret.ReadPINFile(c.PINFile)
	if err != nil {
		return nil, err
	}
	token, err := raw.Open(c.Module, c.TokenLabel, pin)
	pin.Wipe()
	if err != nil {
		return nil, err
	}
	s := &server{clients: map[string]crypto.PublicKey{}}
	for iss, path := range c.Clients {
		if s.clients[iss], err = publicKey(path); err != nil {
			return nil, err
		}
	}
	if c.Record != "" {
		if s.log, err = least.Open(c.Record); err != nil {
			return nil, err
		}
	}
	return s, s.open(c, token)
}

// open opens sessions for the works that have keys.
func (s *server) open(c config, token *raw.Token) error {
	var problems []error
	id := func(text string) []byte {
		b, err := hex.DecodeString(text)
		problems = append(problems, err)
		return b
	}
	for _, w := range []struct {
		to   *signing
		key  key
		task raw.Task
	}{
		{&s.merchant, c.MerchantJWT, raw.Task{Work: raw.RSA, Keys: raw.Keys{RSA: id(c.MerchantJWT.ID)}, Lengths: c.Lengths}},
		{&s.proximity, c.ProximityToken, raw.Task{Work: raw.P256, Keys: raw.Keys{P256: id(c.ProximityToken.ID)}}},
		{&s.tav, c.TAVSigning, raw.Task{Work: raw.Card, Keys: raw.Keys{RSA: id(c.TAVSigning.ID), HMAC: id(c.CardIndexID), AES: id(c.CardVaultID)}}},
	} {
		if w.key.ID == "" {
			continue
		}
		var err error
		if w.to.sessions, err = token.Sessions(w.task, c.Sessions); err == nil && s.log != nil {
			w.to.public, err = publicKey(w.key.Public)
		}
		problems = append(problems, err)
	}
	if c.Intermediate != "" {
		var err error
		s.intermediate, err = certificate(c.Intermediate)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// mux has the works under mintmark's paths.
func (s *server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/merchant-tokens", s.authenticated(s.merchantToken))
	mux.HandleFunc("POST /apple/proximity-token", s.authenticated(s.proximityToken))
	mux.HandleFunc("POST /issuer/push-provisioning/signed-cards", s.authenticated(s.signedCard))
	return mux
}

// authenticated does a work for who has a bearer token, and answers what it gives as JSON.
func (s *server) authenticated(work func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := jwt.Parse(bearer, s.keyOf, jwt.WithValidMethods([]string{"RS256"})); err != nil {
			http.Error(w, "not authenticated", http.StatusUnauthorized)
			return
		}
		out, err := work(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

func (s *server) keyOf(t *jwt.Token) (any, error) {
	iss, err := t.Claims.GetIssuer()
	if key := s.clients[iss]; err == nil && key != nil {
		return key, nil
	}
	return nil, errors.New("unknown client")
}
