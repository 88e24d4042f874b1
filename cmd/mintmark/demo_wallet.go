package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/devdir"
)

// walletJourney is a card's token from its appearance on a phone to its activation through
// the network: it plays network, app and the issuer's systems. Each run has a phone and a
// token of its own.
type walletJourney struct {
	cardJourney
	reference, device string
}

func (j *walletJourney) steps() []step {
	return []step{
		{"network tells of the card's token on a phone: it waits for activation", j.appear},
		{"the app finds it by the phone's passes, and offers to activate", j.find},
		{"without a decision it is not activated", j.undecided},
		{"network asks for a decision, the issuer's systems state what they know: Green", j.decide},
		{"it is activated through the network; asking again gives the same", j.activate},
		{"the cardholder is told, once", j.told},
		{"a state that cannot be is refused, and the history kept", j.impossible},
	}
}

// card is the one that the phone has.
func (j *walletJourney) card() devdir.Card { return j.info.Cards[0] }

func (j *walletJourney) appear(ctx context.Context) error {
	unique := rand.Text()
	j.reference, j.device = "DDEMO"+unique, "phone-"+unique
	return j.tell(ctx, "INACTIVE", http.StatusOK)
}

// tell is the network telling a state.
func (j *walletJourney) tell(ctx context.Context, status string, want int) error {
	return j.want(ctx, http.MethodPut, "/v1/wallet-tokens/"+j.reference, map[string]any{
		"owner":          map[string]string{"iss": j.info.Clients.Issuer.Issuer, "sub": j.info.Clients.Issuer.Subject},
		"externalCardId": j.card().ExternalCardID, "deviceId": j.device, "tokenStatus": status, "authorizationPath": "YELLOW",
	}, want)
}

// post sends a body and decodes the answer, which must be 200, as an app takes it.
func (j *walletJourney) post(ctx context.Context, path string, body, into any) error {
	status, answer, err := j.send(ctx, http.MethodPost, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d: %s", status, answer)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

func (j *walletJourney) find(ctx context.Context) error {
	named := map[string]any{"walletType": "APPLE_PAY", "tokenUniqueReferences": []string{j.reference, "of-another-issuer"}}
	var tokens []struct{ ExternalCardID, TokenStatus string }
	if err := j.post(ctx, "/issuer/push-provisioning/tokens/searches?groupBy=card", named, &tokens); err != nil {
		return err
	}
	if len(tokens) != 1 || tokens[0].ExternalCardID != j.card().ExternalCardID || tokens[0].TokenStatus != "INACTIVE" {
		return fmt.Errorf("found %d tokens, or another card or status", len(tokens))
	}
	var cards []struct{ Identifier, WalletStatus, PrimaryAccountSuffix string }
	if err := j.post(ctx, "/issuer/push-provisioning/cards/searches", named, &cards); err != nil {
		return err
	}
	for _, c := range cards {
		if c.Identifier == j.card().ExternalCardID && c.WalletStatus == "requiresActivation" && c.PrimaryAccountSuffix == j.card().Last4 {
			return nil
		}
	}
	return errors.New("the card is not listed as one that waits for activation")
}

// activation asks for it, and requires a response.
func (j *walletJourney) activation(ctx context.Context, want string) error {
	var out struct{ IssuerMobileAppAuthResponse, Comment string }
	if err := j.post(ctx, "/issuer/push-provisioning/tokens/activations", map[string]string{"tokenUniqueReference": j.reference}, &out); err != nil {
		return err
	}
	if out.IssuerMobileAppAuthResponse != want {
		return fmt.Errorf("the response is %s (%s), not %s", out.IssuerMobileAppAuthResponse, out.Comment, want)
	}
	return nil
}

func (j *walletJourney) undecided(ctx context.Context) error { return j.activation(ctx, "DECLINED") }

func (j *walletJourney) decide(ctx context.Context) error {
	statement, err := j.statement()
	if err != nil {
		return err
	}
	var out struct{ Path string }
	err = j.post(ctx, "/v1/provisioning-decisions", map[string]any{
		"externalCardId": j.card().ExternalCardID, "deviceId": j.device, "source": "in-app",
		"apple": map[string]any{"recommendation": "YELLOW"}, "evidence": []any{map[string]string{"statement": statement}},
	}, &out)
	if err == nil && out.Path != "GREEN" {
		err = fmt.Errorf("the path is %s", out.Path)
	}
	return err
}

// statement is what the issuer's systems know of the cardholder, signed by them: their key is
// the client's, in development.
func (j *walletJourney) statement() (string, error) {
	issuer := j.info.Clients.Issuer
	key, err := devdir.LoadKey(issuer.KeyFile)
	if err != nil {
		return "", err
	}
	now := time.Now()
	year := now.AddDate(-1, 0, 0).UTC().Format(time.RFC3339)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": issuer.Issuer, "sub": issuer.Subject, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": rand.Text(), "deviceId": j.device,
		"multiFactor": map[string]any{"at": year}, "credentials": map[string]any{"changedAt": year},
		"device": map[string]any{"appSince": year, "deviceSince": year, "associated": true}, "login": map[string]any{"method": "biometrics", "usual": true},
	})
	unsigned.Header["kid"], unsigned.Header["typ"] = issuer.KeyID, "mintmark-statement+jwt"
	return unsigned.SignedString(key)
}

func (j *walletJourney) activate(ctx context.Context) error {
	return errors.Join(j.activation(ctx, "APPROVED"), j.activation(ctx, "APPROVED"))
}

// toldWithin is how long a notice may wait in the outbox, on whatever machine it is.
const toldWithin = time.Minute

// told looks at what the simulated network wrote down.
func (j *walletJourney) told(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, toldWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(filepath.Join(j.info.DataDir, "notices.jsonl"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		switch n := strings.Count(string(b), j.reference); {
		case n == 1:
			return nil
		case n > 1:
			return fmt.Errorf("told %d times", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("nobody was told")
		}
	}
}

func (j *walletJourney) impossible(ctx context.Context) error {
	if err := j.tell(ctx, "INACTIVE", http.StatusConflict); err != nil {
		return err
	}
	if err := j.tell(ctx, "DEACTIVATED", http.StatusOK); err != nil { // the phone is reset
		return err
	}
	status, body, err := j.send(ctx, http.MethodGet, "/v1/wallet-tokens/"+j.reference, nil)
	var states []struct{ TokenStatus string }
	if err == nil && (status != http.StatusOK || json.Unmarshal(body, &states) != nil || len(states) != 3 || states[1].TokenStatus != "ACTIVE") {
		err = fmt.Errorf("the history: %d %s", status, body)
	}
	return err
}
