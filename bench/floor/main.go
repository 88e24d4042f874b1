// Command floor is the least that a Go service can do for a signature, to hold mintmark
// against in the same run: net/http, the bearer token verified by golang-jwt, a JWT signed by
// two calls of PKCS#11 in one call of C, a short answer. With -record it does what makes a
// signature accountable as well, also at its least: the signature is verified, and a row is
// committed to SQLite before it leaves, rows that wait sharing a transaction.
//
// It has no strict decoding, no rights, no recovery, no metrics, no request log, no Merkle
// tree: it is nothing to deploy.
package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
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
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run() error {
	module := flag.String("module", "", "PKCS#11 module")
	label := flag.String("token-label", "", "token label")
	pinFile := flag.String("pin-file", "", "file with the PIN")
	id := flag.String("rsa-id", "", "CKA_ID of the RSA key, hex")
	sessions := flag.Int("sessions", 4, "signatures at once")
	client := flag.String("client-key", "", "file with the public key of the bearer tokens, PEM")
	own := flag.String("public-key", "", "file with the public half of the RSA key, PEM; with -record")
	record := flag.String("record", "", "SQLite file to commit rows to")
	flag.Parse()

	s, err := newServer(*module, *label, *pinFile, *id, *sessions, *client)
	if err != nil {
		return err
	}
	if *record != "" {
		if s.public, err = publicKey(*own); err == nil {
			s.log, err = least.Open(*record)
		}
		if err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, s)
}

type server struct {
	signer *raw.Signer
	client *rsa.PublicKey
	public *rsa.PublicKey // of the signatures; nil without log
	log    *least.Log
}

func newServer(module, label, pinFile, id string, sessions int, client string) (*server, error) {
	pin, err := secret.ReadPINFile(pinFile)
	if err != nil {
		return nil, err
	}
	token, err := raw.Open(module, label, pin)
	pin.Wipe()
	if err != nil {
		return nil, err
	}
	ckaID, err := hex.DecodeString(id)
	if err != nil {
		return nil, err
	}
	s := &server{}
	if s.signer, err = token.Signer(ckaID, sessions); err == nil {
		s.client, err = publicKey(client)
	}
	return s, err
}

func publicKey(path string) (*rsa.PublicKey, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return jwt.ParseRSAPublicKeyFromPEM(pem)
}

// ServeHTTP signs the body, a JSON object, as the claims of a JWT.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, err := jwt.Parse(bearer, func(*jwt.Token) (any, error) { return s.client, nil }, jwt.WithValidMethods([]string{"RS256"})); err != nil {
		http.Error(w, "not authenticated", http.StatusUnauthorized)
		return
	}
	claims := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	token, err := s.sign(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func (s *server) sign(claims map[string]any) (string, error) {
	claims["iat"], claims["exp"] = time.Now().Unix(), time.Now().Add(time.Minute).Unix()
	input, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims)).SigningString()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(input))
	sig, err := s.signer.Sign(digest)
	if err == nil && s.log != nil {
		err = rsa.VerifyPKCS1v15(s.public, crypto.SHA256, digest[:], sig)
	}
	if err != nil {
		return "", err
	}
	token := input + "." + base64.RawURLEncoding.EncodeToString(sig)
	if s.log != nil {
		sum := sha256.Sum256([]byte(token))
		entry := fmt.Sprintf(`{"operation":"sign","iss":"https://issuer.example","sub":"merchant-1","output":"%x"}`, sum)
		err = s.log.Append(entry, sha256.Sum256([]byte(entry)))
	}
	return token, err
}
