package connector

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/signer"
)

// simulatorKeyID is the kid of a simulator's key.
const simulatorKeyID = "simulator"

// A Simulator plays the network, for development: it stands where the client for HTTP would,
// takes what a Connector signed, and answers as the contract says. What has been answered
// under a key is answered the same again.
//
// Token references that begin with DECLINED or FAILED are answered so; every other token is
// approved, and every notice accepted and shown.
type Simulator struct {
	key  *ecdsa.PrivateKey
	keys func() map[string]crypto.PublicKey // of those who may ask, by kid
	show func(Shown) error

	mu       sync.Mutex // guards answered
	answered map[string]string
}

// Shown is a notice that a simulator was told.
type Shown struct {
	ID     string          `json:"id"`
	Tenant string          `json:"tenant"`
	Kind   string          `json:"kind"`
	Body   json.RawMessage `json:"body"`
}

// NewSimulator gives a simulator that takes requests by these keys and shows each notice once.
// A notice that cannot be shown is not accepted.
func NewSimulator(keys func() map[string]crypto.PublicKey, show func(Shown) error) (*Simulator, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Simulator{key: key, keys: keys, show: show, answered: map[string]string{}}, nil
}

// Keys are those by which its answers are verified.
func (s *Simulator) Keys() map[string]crypto.PublicKey {
	return map[string]crypto.PublicKey{simulatorKeyID: s.key.Public()}
}

// Post answers a request.
func (s *Simulator) Post(_ context.Context, _, _ string, body []byte, header http.Header) (Answer, error) {
	payload, err := signer.VerifyJWS(string(body), signer.ConnectorType, s.keys())
	var r struct {
		ID     string          `json:"jti"`
		Tenant string          `json:"tenant"`
		Kind   string          `json:"kind"`
		Body   json.RawMessage `json:"body"`
	}
	if err != nil || json.Unmarshal(payload, &r) != nil || header.Get(KeyHeader) != r.ID {
		return Answer{Status: http.StatusBadRequest}, nil
	}
	outcome, err := s.outcome(Shown{r.ID, r.Tenant, r.Kind, r.Body})
	if err != nil {
		return Answer{Status: http.StatusServiceUnavailable}, nil
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"inResponseTo": r.ID, "tenant": r.Tenant, "kind": r.Kind, "outcome": outcome, "comment": "simulated",
	})
	unsigned.Header["typ"], unsigned.Header["kid"] = AnswerType, simulatorKeyID
	signed, err := unsigned.SignedString(s.key)
	if err != nil {
		return Answer{}, fmt.Errorf("sign answer: %w", err)
	}
	return Answer{Status: http.StatusOK, Body: []byte(signed)}, nil
}

// outcome is what was answered before, or what is to be.
func (s *Simulator) outcome(r Shown) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.Tenant + "\x00" + r.ID
	if before, ok := s.answered[id]; ok {
		return before, nil
	}
	outcome := Accepted
	if r.Kind == KindActivation {
		var token struct {
			Reference string `json:"tokenUniqueReference"`
		}
		if err := json.Unmarshal(r.Body, &token); err != nil {
			return "", err
		}
		outcome = "APPROVED"
		for _, other := range []string{"DECLINED", "FAILED"} {
			if strings.HasPrefix(token.Reference, other) {
				outcome = other
			}
		}
	} else if err := s.show(r); err != nil {
		return "", err
	}
	s.answered[id] = outcome
	return outcome, nil
}
