package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
)

// wallets is a domain with one card on a phone and a watch, or an error for everything, which
// remembers what it was asked.
type wallets struct {
	err    error
	asked  []any
	answer provisioning.Activation
}

var changedAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

var onPhone = provisioning.Token{
	Owner:     provisioning.Owner{Tenant: "bank-a", Issuer: issuer, Subject: "user-1"},
	Reference: "8YUZErg1CWsPG5uVa", CardReference: "FWSPMC000000000159f71f703d2141efaf04dd26803f922b", ExternalCardID: "card-1",
	Status: provisioning.TokenInactive, Path: "YELLOW", Revision: 1, Changed: changedAt, ID: "row",
}

var onWatch = provisioning.Token{Owner: onPhone.Owner, Reference: "9XVAfh2DXWtQH6wWb", ExternalCardID: "card-1", Status: provisioning.TokenActive, Revision: 3, Changed: changedAt}

func (w *wallets) PutToken(_ context.Context, who provisioning.Caller, t provisioning.Token) (provisioning.Token, error) {
	w.asked = append(w.asked, who, t)
	t.Revision, t.Changed = 1, changedAt
	return t, w.err
}

func (w *wallets) TokenHistory(_ context.Context, who provisioning.Caller, reference string) ([]provisioning.Token, error) {
	w.asked = append(w.asked, who, reference)
	return []provisioning.Token{onPhone}, w.err
}

func (w *wallets) SearchTokens(_ context.Context, who provisioning.Caller, q provisioning.TokenSearch) ([]provisioning.Token, error) {
	w.asked = append(w.asked, who, q)
	if len(q.References) == 0 {
		return nil, w.err
	}
	return []provisioning.Token{onPhone, onWatch}, w.err
}

func (w *wallets) ActivateToken(_ context.Context, who provisioning.Caller, reference string) (provisioning.Activation, error) {
	w.asked = append(w.asked, who, reference)
	return w.answer, w.err
}

func (w *wallets) SearchCards(_ context.Context, who provisioning.Caller, q provisioning.TokenSearch) ([]provisioning.WalletCard, error) {
	w.asked = append(w.asked, who, q)
	return []provisioning.WalletCard{
		{
			ExternalCardID: "card-1", Title: "Gold", Name: secret.NewText("Zoë Appleseed"), Last4: "1488", Network: provisioning.Mastercard,
			Status: provisioning.RequiresActivation, Tokens: []provisioning.Token{onPhone, onWatch},
		},
		{ExternalCardID: "card-2", Title: "Visa", Name: secret.NewText("John Appleseed"), Last4: "0009", Network: provisioning.Visa, Status: provisioning.NotAdded},
	}, w.err
}

func (w *wallets) Enablement(_ context.Context, who provisioning.Caller) (provisioning.Enablement, error) {
	w.asked = append(w.asked, who)
	return provisioning.Enablement{Tenant: "bank-a", Revision: 2, Changed: changedAt, Rules: []provisioning.EnablementRule{{Product: "gold", BINFrom: "520424", BINTo: "520425", Percentage: 10}}}, w.err
}

// newWallets is an API for a client with all rights on cards in wallets.
func newWallets(t *testing.T, w *wallets) *api {
	return newAPI(t, mustNotBeAsked(t), func(s *setup) {
		s.Wallets, s.Environment = w, "test"
		for _, r := range []access.Right{access.SearchTokens, access.ActivateTokens, access.SearchCards, access.ManageWalletTokens, access.ReadEnablement} {
			s.clients[0].Grants = append(s.clients[0].Grants, access.Grant{Right: r})
		}
	})
}

const (
	tokenSearches = "/issuer/push-provisioning/tokens/searches"
	activations   = "/issuer/push-provisioning/tokens/activations"
	cardSearches  = "/issuer/push-provisioning/cards/searches"
	walletToken   = "/v1/wallet-tokens/8YUZErg1CWsPG5uVa"
)

// walletCalls are the calls about cards in wallets, by the golden file of their answer.
var walletCalls = map[string]struct{ method, path, body string }{
	"token-search":  {http.MethodPost, tokenSearches, `{"walletType":"APPLE_PAY","tokenUniqueReferences":["8YUZErg1CWsPG5uVa","9XVAfh2DXWtQH6wWb"]}`},
	"activation":    {http.MethodPost, activations, `{"tokenUniqueReference":"8YUZErg1CWsPG5uVa"}`},
	"card-search":   {http.MethodPost, cardSearches, `{"walletType":"APPLE_PAY","tokenUniqueReferences":["8YUZErg1CWsPG5uVa"]}`},
	"put-token":     {http.MethodPut, walletToken, `{"owner":{"iss":"https://issuer.example","sub":"user-2"},"externalCardId":"card-1","deviceId":"d","tokenStatus":"INACTIVE","processStatus":null}`},
	"token-history": {http.MethodGet, walletToken, ""},
	"enablement":    {http.MethodGet, "/v1/enablement", ""},
}

func (a *api) callWallet(name, query string) answer {
	a.t.Helper()
	call := walletCalls[name]
	req := a.postTo(call.path+query, call.body, token(a.t, issuer, nil))
	req.Method = call.method
	return a.do(req)
}

// The answers are those that apps decode, byte for byte; the files of testdata are what an
// app's own tests can use.
func TestAnswersAboutWalletsAreTheGoldenFiles(t *testing.T) {
	w := &wallets{answer: provisioning.Activation{Reference: onPhone.Reference, Last4: "1488", Response: provisioning.Approved}}
	a := newWallets(t, w)
	for name := range walletCalls {
		want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		got := a.callWallet(name, "")
		if diff := cmp.Diff(strings.TrimSpace(string(want)), got.body); got.status != http.StatusOK || diff != "" {
			t.Errorf("%s: %d %s", name, got.status, diff)
		}
	}
}

// swiftToken is the iOS guide's TokenResponse: String? takes a text, null, or nothing.
type swiftToken struct {
	TokenUniqueReference, PanUniqueReference, ExternalCardID *string
	TokenStatus, AuthorizationPath, ProcessStatus            *string
}

// JSONDecoder decodes a bare array, and the dictionary that the guide's app makes of it traps
// on a card that comes twice, unless the app asks for one token of each card.
func TestTokensDecodeAsTheSwiftStructDoes(t *testing.T) {
	w := &wallets{}
	a := newWallets(t, w)
	got := a.callWallet("token-search", "")
	var rows []map[string]any
	var tokens []swiftToken
	if err := errors.Join(json.Unmarshal([]byte(got.body), &rows), json.Unmarshal([]byte(got.body), &tokens)); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	if len(rows) != 2 || len(rows[0]) != 6 || len(rows[1]) != 6 || *tokens[0].TokenStatus != "INACTIVE" || tokens[0].ProcessStatus != nil || tokens[1].PanUniqueReference != nil {
		t.Errorf("decoded %v", rows)
	}
	a.callWallet("token-search", "?groupBy=card")
	if plain, grouped := w.asked[1].(provisioning.TokenSearch), w.asked[3].(provisioning.TokenSearch); plain.GroupByCard || !grouped.GroupByCard {
		t.Errorf("asked for %+v and %+v", plain, grouped)
	}
	empty := a.do(a.postTo(tokenSearches, `{"walletType":"APPLE_PAY","tokenUniqueReferences":[]}`, token(t, issuer, nil)))
	if empty.status != 200 || empty.body != "[]" {
		t.Errorf("nothing is %d %s", empty.status, empty.body)
	}
	a.callWallet("token-search", "?groupBy=device").expect(t, 400, "malformed-member")
}

// issuerMobileAppAuthResponse is a Swift enum without a case for anything else, and the app
// takes 200 alone for an answer.
func TestActivationsDecodeAsTheSwiftStructDoes(t *testing.T) {
	for _, out := range []provisioning.Activation{
		{Reference: onPhone.Reference, Last4: "1488", Response: provisioning.Approved},
		{Reference: onPhone.Reference, Response: provisioning.Declined, Comment: "no-decision"},
		{Response: provisioning.Failed, Comment: "unknown-wallet-token"},
	} {
		got := newWallets(t, &wallets{answer: out}).callWallet("activation", "")
		var swift struct {
			TokenUniqueReference, CardLast4Digits *string
			IssuerMobileAppAuthResponse           string
			Comment                               *string
		}
		if err := json.Unmarshal([]byte(got.body), &swift); err != nil || got.status != 200 || swift.IssuerMobileAppAuthResponse != string(out.Response) {
			t.Errorf("%+v: %d %s, %v", out, got.status, got.body, err)
		}
		if (swift.Comment == nil) != (out.Comment == "") || (swift.CardLast4Digits == nil) != (out.Last4 == "") {
			t.Errorf("%+v: %s", out, got.body)
		}
	}
}

func TestRefusalsAboutWalletsAreProblemsOfTheirOwn(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		calls  []string
	}{
		"unknown-wallet-token":  {provisioning.ErrUnknownToken, 404, []string{"put-token", "token-history"}},
		"impossible-transition": {provisioning.ErrTransition, 409, []string{"put-token"}},
		"product-not-enabled":   {provisioning.ErrNotEnabled, 403, []string{"card-search"}},
		"too-many-cards":        {provisioning.ErrTooManyCards, 422, []string{"card-search"}},
		"wallet-type":           {provisioning.ErrWalletType, 422, []string{"token-search", "card-search"}},
		"malformed-member":      {&provisioning.FieldError{Member: "x"}, 400, []string{"token-search", "card-search", "put-token", "activation"}},
		"token-used":            {access.ErrReplayed, 409, []string{"token-search", "card-search", "put-token", "token-history", "activation", "enablement"}},
		"unavailable":           {unavailableError{}, 503, []string{"token-search", "card-search", "put-token", "token-history", "activation", "enablement"}},
	} {
		for _, call := range tc.calls {
			newWallets(t, &wallets{err: tc.err}).callWallet(call, "").expect(t, tc.status, name)
		}
	}
}

type unavailableError struct{}

func (unavailableError) Error() string             { return "database is away" }
func (unavailableError) RetryAfter() time.Duration { return time.Second }

// Each call has a right of its own, and without it the domain is not asked.
func TestEachCallAboutWalletsNeedsItsRight(t *testing.T) {
	needs := map[string]access.Right{
		"token-search": access.SearchTokens, "activation": access.ActivateTokens, "card-search": access.SearchCards,
		"put-token": access.ManageWalletTokens, "token-history": access.ManageWalletTokens, "enablement": access.ReadEnablement,
	}
	for name, right := range needs {
		w := &wallets{}
		a := newAPI(t, mustNotBeAsked(t), func(s *setup) {
			s.Wallets = w
			s.clients[0].Grants = nil
			for _, r := range access.Rights() {
				if r != right && r != access.ManagePasses {
					s.clients[0].Grants = append(s.clients[0].Grants, access.Grant{Right: r})
				}
			}
		})
		a.callWallet(name, "").expect(t, 403, "forbidden")
		if len(w.asked) != 0 {
			t.Errorf("%s: asked %v", name, w.asked)
		}
	}
}

// A body that is not the contract's is refused before the domain sees it; what the network
// does not tell may be null.
func TestBodiesAboutWalletsAreHeldToTheContract(t *testing.T) {
	w := &wallets{}
	a := newWallets(t, w)
	for path, bodies := range map[string][]string{
		tokenSearches: {`{"walletType":"APPLE_PAY","tokenUniqueReferences":null}`, `{"walletType":"APPLE_PAY","tokenUniqueReferences":[1]}`, `{"walletType":"APPLE_PAY","tokenUniqueReferences":[],"x":1}`, `[]`},
		cardSearches:  {`{"walletType":7}`},
		activations:   {`{"tokenUniqueReference":null}`, `{"tokenUniqueReference":"a","deviceId":"b"}`},
		walletToken:   {`{"owner":{"iss":"a","sub":"b"},"tokenUniqueReference":"another"}`, `{"owner":{"iss":"a","sub":"b","tenant":"bank-b"}}`, `{"owner":{"iss":"a","sub":"b"},"tenant":"bank-b"}`},
	} {
		for _, body := range bodies {
			req := a.postTo(path, body, token(t, issuer, nil))
			if path == walletToken {
				req.Method = http.MethodPut
			}
			if got := a.do(req); got.status != 400 {
				t.Errorf("%s: answered %d: %s", body, got.status, got.body)
			}
		}
	}
	if len(w.asked) != 0 {
		t.Errorf("asked %v", w.asked)
	}
	a.callWallet("put-token", "")
	put := w.asked[1].(provisioning.Token)
	if put.Tenant != "bank-a" || put.Subject != "user-2" || put.Reference != onPhone.Reference || put.Process != "" || put.Status != "INACTIVE" || put.DeviceID != "d" {
		t.Errorf("put %+v", put)
	}
}
