package actors

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Claims are those of a JWT. As a change to others, a nil value takes a claim away.
type Claims = map[string]any

// Party is a client of the service as its own software sees it: its names, its private
// key, and what its tokens say. Tokens are made by golang-jwt.
type Party struct {
	T                                testing.TB
	Issuer, KeyID, Audience, Subject string
	Claims                           Claims // beside the registered ones
	Key                              crypto.Signer
}

// NewParty is a party with a P-256 key.
func NewParty(t testing.TB, issuer, audience string) *Party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Party{T: t, Issuer: issuer, KeyID: issuer + "-1", Audience: audience, Subject: issuer + "-user", Key: key}
}

// Unsigned is a token of the party for the next minutes, with its claims changed.
func (p *Party) Unsigned(change Claims) *jwt.Token {
	now := time.Now()
	all := jwt.MapClaims{
		"iss": p.Issuer, "sub": p.Subject, "aud": p.Audience, "jti": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	maps.Copy(all, p.Claims)
	maps.Copy(all, change)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	var method jwt.SigningMethod = jwt.SigningMethodES256
	if _, ok := p.Key.(*rsa.PrivateKey); ok {
		method = jwt.SigningMethodRS256
	}
	unsigned := jwt.NewWithClaims(method, all)
	unsigned.Header["kid"] = p.KeyID
	return unsigned
}

// Signed is a token signed by the party.
func (p *Party) Signed(unsigned *jwt.Token) string {
	p.T.Helper()
	token, err := unsigned.SignedString(p.Key)
	if err != nil {
		p.T.Fatal(err)
	}
	return token
}

// Token is a signed token of the party, with its claims changed.
func (p *Party) Token(change Claims) string {
	p.T.Helper()
	return p.Signed(p.Unsigned(change))
}

// PublicPEM is a public key as it is handed over.
func PublicPEM(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Call is one request: to post a body, or a GET without one.
type Call struct {
	Method, URL string
	Token       string // none if empty
	Body        any    // JSON, but []byte as it is; none if nil
	Header      http.Header
}

// Answer is what a caller got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// By sends the request.
func (c Call) By(with *http.Client) (Answer, error) {
	var body io.Reader
	contentType := "application/json"
	if raw, ok := c.Body.([]byte); ok {
		body, contentType = bytes.NewReader(raw), "application/octet-stream"
	} else if c.Body != nil {
		b, err := json.Marshal(c.Body)
		if err != nil {
			return Answer{}, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(c.Method, c.URL, body)
	if err != nil {
		return Answer{}, err
	}
	maps.Copy(req.Header, c.Header)
	if c.Body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := with.Do(req)
	if err != nil {
		return Answer{}, err
	}
	return Read(resp)
}

// Read takes an answer in.
func Read(resp *http.Response) (Answer, error) {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, body}, err
}

// EncryptedCard is a Mastercard's data, encrypted to the key that the service publishes for
// them, for the owner and the name that header tells.
func EncryptedCard(t testing.TB, published jose.JSONWebKeySet, header map[string]any, card string) string {
	t.Helper()
	var key jose.JSONWebKey
	for _, k := range published.Keys {
		if k.Use == "enc" && k.Algorithm == string(jose.ECDH_ES_A256KW) {
			key = k
		}
	}
	options := (&jose.EncrypterOptions{}).WithType("mintmark-card+jwe")
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: key.Key, KeyID: key.KeyID}, options)
	if err != nil {
		t.Fatal(err)
	}
	message, err := e.Encrypt([]byte(card))
	if err != nil {
		t.Fatal(err)
	}
	text, err := message.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
