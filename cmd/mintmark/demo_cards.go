package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/devdir"
)

// cardJourney is an issuer that brings in a card of its own, encrypted with go-jose, which
// the server does not use for it.
type cardJourney struct {
	*demo
	id, jti, message string
}

func (j *cardJourney) steps() []step {
	return []step{
		{"issuer encrypts a card to the published key, and it is stored", j.put},
		{"the same message again is refused", j.again},
		{"the card is shown masked", j.show},
		{"a Visa card has its number encrypted for the network, and an activation code", j.visa},
		{"the card is removed, and is unknown from then on", j.remove},
	}
}

func (j *cardJourney) put(ctx context.Context) error {
	status, body, err := j.send(ctx, http.MethodGet, "/.well-known/jwks.json", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("JWK set: %d, %w", status, err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		return err
	}
	j.id, j.jti = "demo-"+strings.ToLower(rand.Text()[:8]), rand.Text()
	for _, k := range set.Keys {
		if k.Use == "enc" {
			if j.message, err = j.encrypt(k); err != nil {
				return err
			}
		}
	}
	return j.want(ctx, http.MethodPut, "/v1/cards/"+j.id, map[string]string{"encryptedCard": j.message}, http.StatusOK)
}

func (j *cardJourney) encrypt(to jose.JSONWebKey) (string, error) {
	opts := &jose.EncrypterOptions{}
	for k, v := range map[jose.HeaderKey]any{
		"typ": "mintmark-card+jwe", "tenant": devdir.Tenant, "iss": j.info.Clients.Issuer.Issuer, "sub": j.info.Clients.Issuer.Subject,
		"externalCardId": j.id, "exp": time.Now().Add(time.Minute).Unix(), "jti": j.jti,
	} {
		opts.WithHeader(k, v)
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: to.Key, KeyID: to.KeyID}, opts)
	if err != nil {
		return "", err
	}
	jwe, err := enc.Encrypt([]byte(`{"primaryAccountNumber":"5105105105105100","expiration":"11/39","name":"Jean Pommier","product":"mastercard"}`))
	if err != nil {
		return "", err
	}
	return jwe.CompactSerialize()
}

func (j *cardJourney) again(ctx context.Context) error {
	return j.want(ctx, http.MethodPut, "/v1/cards/"+j.id, map[string]string{"encryptedCard": j.message}, http.StatusConflict)
}

func (j *cardJourney) show(ctx context.Context) error {
	status, body, err := j.send(ctx, http.MethodGet, "/v1/cards/"+j.id, nil)
	if err != nil || status != http.StatusOK || !bytes.Contains(body, []byte(`"last4":"5100"`)) || bytes.Contains(body, []byte("11/39")) {
		return fmt.Errorf("answered %d: %s, %w", status, body, err)
	}
	return nil
}

func (j *cardJourney) visa(ctx context.Context) error {
	visa := &demo{out: j.out, info: j.info, http: j.http}
	if err := visa.phone(ctx); err != nil {
		return err
	}
	req := visa.request()
	req["externalCardId"] = "demo-visa-1"
	status, body, err := visa.post(ctx, req, true)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("answered %d: %s, %w", status, body, err)
	}
	if err := json.Unmarshal(body, &visa.answer); err != nil {
		return err
	}
	if err := visa.open(ctx); err != nil {
		return err
	}
	block, err1 := base64.StdEncoding.DecodeString(visa.payload["encryptedPrimaryAccountNumber"])
	code, err2 := base64.StdEncoding.DecodeString(visa.answer.ActivationData)
	if !bytes.HasPrefix(block, []byte("MBPAD-1-FK-")) || !bytes.HasPrefix(code, []byte("MBPAC-1-FK-")) {
		return errors.Join(errors.New("it is not Visa's form"), err1, err2)
	}
	return nil
}

func (j *cardJourney) remove(ctx context.Context) error {
	if err := j.want(ctx, http.MethodDelete, "/v1/cards/"+j.id, nil, http.StatusNoContent); err != nil {
		return err
	}
	return j.want(ctx, http.MethodGet, "/v1/cards/"+j.id, nil, http.StatusNotFound)
}

// want sends a request and requires a status.
func (j *cardJourney) want(ctx context.Context, method, path string, body any, status int) error {
	got, answer, err := j.send(ctx, method, path, body)
	if err == nil && got != status {
		err = fmt.Errorf("answered %d instead of %d: %s", got, status, answer)
	}
	return err
}

func (j *cardJourney) send(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, j.info.BaseURL+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	token, err := j.info.Clients.Issuer.Sign(time.Now())
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return j.do(req)
}
