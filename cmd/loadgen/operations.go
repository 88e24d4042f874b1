package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"strings"
	"time"
)

// request is one HTTP request, ready to be sent, and the statuses that count as done.
type request struct {
	method, path  string
	authorization string // none if empty
	body          []byte // JSON; none if nil
	want          []int
}

// maker makes the requests of an operation, which are sent one after the other; n is
// another number each time.
type maker func(n uint64) ([]request, error)

// operation is one kind of load.
type operation struct {
	about string
	// prepare does once what the operation needs before it can begin; nil for nothing.
	prepare func(t *traffic, ctx context.Context) error
	make    func(t *traffic, n uint64) ([]request, error)
}

// operations are all kinds, by the names that --mix uses.
var operations = map[string]operation{
	"merchant":      {"a merchant JWT is signed (RS256)", (*traffic).issuer, (*traffic).merchantToken},
	"checkjwt":      {"a merchant JWT is checked", (*traffic).merchant, (*traffic).checkToken},
	"proximity":     {"an Apple proximity token is signed (ES256)", (*traffic).merchant, (*traffic).proximityToken},
	"card":          {"the first card is sealed for Apple Wallet, with a nonce of its own", (*traffic).chain, (*traffic).signedCard},
	"wallet-put":    {"the network tells of a card's token on another phone", (*traffic).issuer, (*traffic).walletPut},
	"wallet-search": {"an app looks for two of its tokens", (*traffic).walletTokens, (*traffic).walletSearch},
	"pass-put":      {"a new pass is made", (*traffic).passes, (*traffic).passPut},
	"pass-issue":    {"a new pass is made and downloaded, and so signed: two requests", (*traffic).passes, (*traffic).passIssue},
	"pass-download": {"the target's pass is downloaded, as it was signed before", (*traffic).passes, (*traffic).passDownload},
	"register":      {"a new device registers for a pass", (*traffic).passesToRegister, (*traffic).register},
	"list":          {"a device asks for its passes", (*traffic).registeredDevice, (*traffic).list},
	"jwks":          {"the published keys are read", nil, (*traffic).jwks},
}

func operationNames() iter.Seq[string] { return maps.Keys(operations) }

// traffic makes requests for one target.
type traffic struct {
	*target
	plan   plan
	client *http.Client

	run          string   // in all names that the run makes, so that no run meets another's
	certificates []string // leaf and intermediate
	references   []string // wallet tokens to look for
	serials      []string // passes to register for
	passToken    string   // the authentication token of all passes that the run makes
}

func newTraffic(t *target, client *http.Client, p plan) *traffic {
	return &traffic{target: t, plan: p, client: client, run: strings.ToLower(rand.Text()[:10]), passToken: rand.Text()}
}

// prepare does what the mix needs, and gives the run.
func (t *traffic) prepare(ctx context.Context, shares []share) (*run, error) {
	r := newRun(t.plan, t.client, t.BaseURL, shares)
	for i, s := range shares {
		o := operations[s.name]
		if o.prepare != nil {
			if err := o.prepare(t, ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		r.makers[i] = func(n uint64) ([]request, error) { return o.make(t, n) }
	}
	return r, nil
}

// send sends requests now; each must be answered as it wants.
func (t *traffic) send(ctx context.Context, all []request, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.plan.timeout)
	defer cancel()
	for _, q := range all {
		fault, err := q.send(ctx, t.client, t.BaseURL)
		if err != nil {
			return err
		}
		if fault != "" {
			return fmt.Errorf("%s %s: %s", q.method, q.path, fault)
		}
	}
	return nil
}

func (t *traffic) issuer(context.Context) error   { return t.Clients.Issuer.load() }
func (t *traffic) merchant(context.Context) error { return t.Clients.Merchant.load() }

// as is a request of a party, with a bearer token of its own.
func (t *traffic) as(p *party, method, path string, body any, want ...int) ([]request, error) {
	token, err := p.token(time.Now())
	if err != nil {
		return nil, err
	}
	q := request{method: method, path: path, authorization: "Bearer " + token, want: want}
	if body != nil {
		q.body, err = json.Marshal(body)
	}
	return []request{q}, err
}

func (t *traffic) merchantToken(n uint64) ([]request, error) {
	claims := t.Clients.Merchant.Claims
	return t.as(&t.Clients.Issuer, http.MethodPost, "/v1/merchant-tokens", map[string]any{
		"sub": fmt.Sprintf("loadgen-%d", n%1000), "usr": "loadgen", "aud": t.Clients.Merchant.Aud,
		"mbn": claims["mbn"], "mcc": claims["mcc"], "x-tid": claims["x-tid"],
	}, http.StatusOK)
}

func (t *traffic) checkToken(uint64) ([]request, error) {
	return t.as(&t.Clients.Merchant, http.MethodPost, "/tokens/checkjwt", nil, http.StatusOK)
}

func (t *traffic) proximityToken(uint64) ([]request, error) {
	return t.as(&t.Clients.Merchant, http.MethodPost, "/apple/proximity-token", nil, http.StatusOK)
}

// chain reads Apple's simulated chain, and looks for a card.
func (t *traffic) chain(context.Context) error {
	leaf, err1 := certificate(t.Apple.LeafCert)
	sub, err2 := certificate(t.Apple.SubCert)
	t.certificates = []string{leaf, sub}
	if len(t.Cards) == 0 {
		return errors.New("the target names no card")
	}
	return errors.Join(err1, err2, t.Clients.Issuer.load())
}

func (t *traffic) signedCard(uint64) ([]request, error) {
	fresh := make([]byte, 84)
	_, _ = rand.Read(fresh) // never fails
	return t.as(&t.Clients.Issuer, http.MethodPost, "/issuer/push-provisioning/signed-cards", map[string]any{
		"externalCardId": t.Cards[0].ExternalCardID, "certificates": t.certificates, "walletType": "APPLE_PAY",
		"nonce": hex.EncodeToString(fresh[:4]), "nonceSignature": "40" + hex.EncodeToString(fresh[4:]),
	}, http.StatusOK)
}

// walletToken has the network tell of a token that waits for activation.
func (t *traffic) walletToken(reference string) ([]request, error) {
	if len(t.Cards) == 0 {
		return nil, errors.New("the target names no card")
	}
	issuer := &t.Clients.Issuer
	return t.as(issuer, http.MethodPut, "/v1/wallet-tokens/"+reference, map[string]any{
		"owner":          map[string]string{"iss": issuer.Iss, "sub": issuer.Sub},
		"externalCardId": t.Cards[0].ExternalCardID, "deviceId": "phone-" + reference, "tokenStatus": "INACTIVE", "authorizationPath": "YELLOW",
	}, http.StatusOK)
}

func (t *traffic) walletPut(n uint64) ([]request, error) {
	return t.walletToken(fmt.Sprintf("LG%s-%d", t.run, n))
}

// walletTokens makes the two tokens that are looked for.
func (t *traffic) walletTokens(ctx context.Context) error {
	if err := t.Clients.Issuer.load(); err != nil {
		return err
	}
	for _, which := range []string{"phone", "watch"} {
		reference := "LG" + t.run + "-" + which
		all, err := t.walletToken(reference)
		if err := t.send(ctx, all, err); err != nil {
			return err
		}
		t.references = append(t.references, reference)
	}
	return nil
}

func (t *traffic) walletSearch(uint64) ([]request, error) {
	return t.as(&t.Clients.Issuer, http.MethodPost, "/issuer/push-provisioning/tokens/searches", map[string]any{
		"walletType": "APPLE_PAY", "tokenUniqueReferences": t.references,
	}, http.StatusOK)
}

func (t *traffic) jwks(uint64) ([]request, error) {
	return []request{{method: http.MethodGet, path: "/.well-known/jwks.json", want: []int{http.StatusOK}}}, nil
}
