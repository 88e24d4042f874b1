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
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"database/sql"
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
	_ "github.com/mattn/go-sqlite3"

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
			s.log, err = openLog(*record)
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
	log    *log
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
	token, err := s.sign(r.Context(), claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func (s *server) sign(ctx context.Context, claims map[string]any) (string, error) {
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
		err = s.log.append(ctx, token)
	}
	return token, err
}

// log commits rows, those that wait in one transaction.
type log struct {
	db   *sql.DB
	rows chan row
}

type row struct {
	body string
	done chan error
}

func openLog(path string) (*log, error) {
	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_stmt_cache_size=8")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE entries (seq INTEGER PRIMARY KEY, at BIGINT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL)"); err != nil {
		return nil, err
	}
	l := &log{db: db, rows: make(chan row, 1024)}
	go l.run()
	return l, nil
}

func (l *log) append(_ context.Context, token string) error {
	sum := sha256.Sum256([]byte(token))
	body, err := json.Marshal(map[string]string{"operation": "sign", "output": hex.EncodeToString(sum[:]), "iss": "https://issuer.example", "sub": "merchant-1"})
	if err != nil {
		return err
	}
	r := row{string(body), make(chan error, 1)}
	l.rows <- r
	return <-r.done
}

func (l *log) run() {
	for first := range l.rows {
		batch := []row{first}
		for len(l.rows) > 0 {
			batch = append(batch, <-l.rows)
		}
		err := l.commit(batch)
		for _, r := range batch {
			r.done <- err
		}
	}
}

func (l *log) commit(batch []row) error {
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, r := range batch {
		hash := sha256.Sum256([]byte(r.body))
		if _, err := tx.Exec("INSERT INTO entries (at, body, hash) VALUES (?, ?, ?)", time.Now().UnixMilli(), r.body, hash[:]); err != nil {
			return err
		}
	}
	return tx.Commit()
}
