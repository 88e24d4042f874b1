package httpapi

import (
	"context"
	"encoding/base64"
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
)

// cards is a domain that has one card, or an error for everything, and remembers who asked.
type cards struct {
	provisioner
	err  error
	seen []provisioning.Caller
}

func (c *cards) ActivationData(_ context.Context, who provisioning.Caller, _ provisioning.ActivationRequest) ([]byte, error) {
	c.seen = append(c.seen, who)
	return sealed.ActivationData, c.err
}

func (c *cards) PutCard(_ context.Context, who provisioning.Caller, _, _ string) (provisioning.Masked, error) {
	return c.GetCard(context.Background(), who, "")
}

func (c *cards) GetCard(_ context.Context, who provisioning.Caller, _ string) (provisioning.Masked, error) {
	c.seen = append(c.seen, who)
	return provisioning.Masked{ExternalCardID: canaryNumber, Product: "gold", Network: provisioning.Mastercard, Last4: "1488", Stored: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}, c.err
}

func (c *cards) DeleteCard(_ context.Context, who provisioning.Caller, _ string) error {
	c.seen = append(c.seen, who)
	return c.err
}

// newCards is an API for a client with all rights on cards, for any owner where said.
func newCards(t *testing.T, domain Provisioner, anyOwner bool) *api {
	return newAPI(t, domain, func(s *setup) {
		for _, r := range []access.Right{access.CreateActivationData, access.ManageCards, access.ReadCards} {
			s.clients[0].Grants = append(s.clients[0].Grants, access.Grant{Right: r, AnyOwner: anyOwner})
		}
	})
}

// cardCalls are the operations on cards, with a body that is in order.
var cardCalls = map[string]struct{ method, path, body string }{
	"signed-card":     {http.MethodPost, signedCards, ""},
	"activation-data": {http.MethodPost, "/issuer/push-provisioning/activation-data", `{"externalCardId":"card-1"}`},
	"stored-card":     {http.MethodPut, "/v1/cards/" + canaryNumber, `{"encryptedCard":"a.b.c.d.e"}`},
	"masked-card":     {http.MethodGet, "/v1/cards/" + canaryNumber, ""},
	"removed-card":    {http.MethodDelete, "/v1/cards/" + canaryNumber, ""},
}

func (a *api) callCard(name string) answer {
	a.t.Helper()
	call := cardCalls[name]
	if call.body == "" && call.method == http.MethodPost {
		b, err := json.Marshal(goodBody())
		if err != nil {
			a.t.Fatal(err)
		}
		call.body = string(b)
	}
	req := a.postTo(call.path, call.body, token(a.t, issuer, nil))
	req.Method = call.method
	return a.do(req)
}

// The answers are those that apps decode, byte for byte; the files of testdata are what an
// app's own tests can use.
func TestAnswersAreTheGoldenFiles(t *testing.T) {
	a := newCards(t, &cards{provisioner: seals}, false)
	for name := range cardCalls {
		got := a.callCard(name)
		if name == "removed-card" {
			if got.status != http.StatusNoContent || got.body != "" {
				t.Errorf("removed with %d %q", got.status, got.body)
			}
			continue
		}
		want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), got.body); got.status != http.StatusOK || diff != "" {
			t.Errorf("%s: %d %s", name, got.status, diff)
		}
	}
}

// JSONDecoder of the iOS guide's SignCardResponse: three members, none of them optional,
// each taken by Data(base64Encoded:) without options: standard Base64 with padding, once.
func TestSignedCardDecodesAsTheSwiftStructDoes(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "signed-card.json"))
	if err != nil {
		t.Fatal(err)
	}
	var swift map[string]*string // String, not String?
	if err := json.Unmarshal(b, &swift); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"activationData", "ephemeralPublicKey", "encryptedData"} {
		if swift[member] == nil {
			t.Fatalf("%s is missing or null", member)
		}
		if raw, err := base64.StdEncoding.Strict().DecodeString(*swift[member]); err != nil || len(raw) == 0 {
			t.Errorf("%s: %v", member, err)
		}
	}
	if len(*swift["ephemeralPublicKey"]) != 88 {
		t.Errorf("the point has %d characters", len(*swift["ephemeralPublicKey"]))
	}
}

// Whose cards a caller may use is decided by its right.
func TestCallerIsAnyOwnerOnlyByItsRight(t *testing.T) {
	for _, anyOwner := range []bool{false, true} {
		domain := &cards{provisioner: seals}
		a := newCards(t, domain, anyOwner)
		for name := range cardCalls {
			a.callCard(name)
		}
		if len(domain.seen) != 4 {
			t.Fatalf("asked %d times", len(domain.seen))
		}
		for _, who := range domain.seen {
			if who.AnyOwner != anyOwner || who.Tenant != "bank-a" || who.Issuer != issuer || who.Subject != "user-1" {
				t.Errorf("asked by %+v", who)
			}
		}
	}
}

func TestRefusalsOfCardsAreProblemsOfTheirOwn(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
	}{
		"encrypted-card":      {provisioning.ErrEncryptedCard, 422},
		"encrypted-card-used": {provisioning.ErrMessageUsed, 409},
		"card":                {&provisioning.CardError{Reason: provisioning.CardExpired}, 422},
		"internal":            {errors.New(canary), 500},
	} {
		a := newCards(t, &cards{provisioner: failsWith(tc.err), err: tc.err}, false)
		if got := a.callCard("stored-card"); got.status != tc.status || !strings.Contains(got.body, "urn:mintmark:problem:"+name+`"`) {
			t.Errorf("%s: answered %d %s", name, got.status, got.body)
		}
	}
}
