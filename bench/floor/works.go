package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// merchantToken signs the body, a JSON object, as the claims of a JWT.
func (s *server) merchantToken(r *http.Request) (any, error) {
	claims := jwt.MapClaims{}
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		return nil, err
	}
	return s.token(s.merchant, jwt.SigningMethodRS256, claims)
}

// proximityToken signs claims of the service's own as a JWT.
func (s *server) proximityToken(*http.Request) (any, error) {
	return s.token(s.proximity, jwt.SigningMethodES256, jwt.MapClaims{"iss": "psp", "mbn": "Corner Shop", "mcc": "5411", "tpid": "profile"})
}

func (s *server) token(by signing, method jwt.SigningMethod, claims jwt.MapClaims) (any, error) {
	claims["iat"], claims["exp"] = time.Now().Unix(), time.Now().Add(time.Minute).Unix()
	input, err := jwt.NewWithClaims(method, claims).SigningString()
	if err != nil {
		return nil, err
	}
	sig, err := s.sign(by, sha256.Sum256([]byte(input)))
	if err != nil {
		return nil, err
	}
	token := input + "." + base64.RawURLEncoding.EncodeToString(sig)
	return map[string]string{"token": token}, s.record(token)
}

// sealedSize is about the size of a sealed card's payload.
const sealedSize = 320

// signedCard verifies the leaf, records the nonce, and makes the calls of a sealed card; what
// it answers has the sizes of one.
func (s *server) signedCard(r *http.Request) (any, error) {
	var card struct {
		Certificates          [][]byte
		Nonce, NonceSignature string
	}
	err := json.NewDecoder(r.Body).Decode(&card)
	if err == nil && len(card.Certificates) == 0 {
		err = errors.New("no certificate")
	}
	if err == nil {
		err = issuedBy(s.intermediate, card.Certificates[0])
	}
	if err == nil {
		err = s.record(card.Nonce + card.NonceSignature)
	}
	if err != nil {
		return nil, err
	}
	sig, err := s.sign(s.tav, sha256.Sum256([]byte(card.Nonce)))
	if err == nil {
		err = s.record(string(sig))
	}
	return map[string][]byte{"activationData": sig, "ephemeralPublicKey": make([]byte, 65), "encryptedData": make([]byte, sealedSize)}, err
}

// sign does the work, and verifies its signature if there is a record.
func (s *server) sign(by signing, digest [sha256.Size]byte) ([]byte, error) {
	sig, err := by.sessions.Do(digest)
	if err != nil || s.log == nil {
		return sig, err
	}
	switch public := by.public.(type) {
	case *rsa.PublicKey:
		err = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig)
	case *ecdsa.PublicKey:
		if half := len(sig) / 2; !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])) {
			err = errors.New("signature does not verify")
		}
	}
	return sig, err
}

// record commits a row about an output, if there is a record.
func (s *server) record(output string) error {
	if s.log == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(output))
	entry := fmt.Sprintf(`{"operation":"sign","iss":"https://issuer.example","sub":"merchant-1","output":"%x"}`, sum)
	return s.log.Append(entry, sha256.Sum256([]byte(entry)))
}

func publicKey(path string) (crypto.PublicKey, error) {
	der, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	return x509.ParsePKIXPublicKey(der)
}

func certificate(path string) (*x509.Certificate, error) {
	der, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	return block.Bytes, nil
}

// issuedBy verifies that a certificate, DER, is an issuer's.
func issuedBy(issuer *x509.Certificate, der []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return c.CheckSignatureFrom(issuer)
}
