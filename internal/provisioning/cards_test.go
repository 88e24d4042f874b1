package provisioning_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// plain is card data as a sender encrypts them.
const plain = `{"primaryAccountNumber":"5105105105105100","expiration":"11/39","name":"Jean Pommier","product":"mastercard"}`

// encrypt encrypts card data to the token's card-transport key with go-jose; header members
// are changed, and left out where they are nil.
func (w *world) encrypt(text string, changes map[jose.HeaderKey]any) string {
	w.Helper()
	pub, err := w.token.Public(string(hsm.CardTransport))
	if err != nil {
		w.Fatal(err)
	}
	kid, err := signer.KeyID(pub)
	if err != nil {
		w.Fatal(err)
	}
	header := map[jose.HeaderKey]any{
		"kid": kid, "typ": signer.EncryptedCardType, "tenant": owner.Tenant, "iss": owner.Issuer, "sub": owner.Subject,
		"externalCardId": "new-card", "exp": w.clock.Now().Add(time.Minute).Unix(), "jti": rand.Text(),
	}
	maps.Copy(header, changes)
	opts := &jose.EncrypterOptions{}
	for k, v := range header {
		if v != nil {
			opts.WithHeader(k, v)
		}
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: pub}, opts)
	if err != nil {
		w.Fatal(err)
	}
	jwe, err := enc.Encrypt([]byte(text))
	if err != nil {
		w.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		w.Fatal(err)
	}
	return compact
}

func (w *world) put(who provisioning.Caller, id, compact string) (provisioning.Masked, error) {
	return w.svc.PutCard(context.Background(), who, id, compact)
}

// other is a caller of another subject, stranger one of another tenant, clerk one whose
// right is for every owner.
var (
	other    = provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: owner.Issuer, Subject: "user-2"}}
	stranger = provisioning.Caller{Owner: provisioning.Owner{Tenant: "other bank", Issuer: owner.Issuer, Subject: "user-1"}, AnyOwner: true}
	clerk    = provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: "https://clerk.example", Subject: "clerk"}, AnyOwner: true}
)

func TestEncryptedCardIsStoredShownMaskedSealedAndRemoved(t *testing.T) {
	w := newWorld(t)
	want := provisioning.Masked{ExternalCardID: "new-card", Product: "mastercard", Network: provisioning.Mastercard, Last4: "5100", Stored: start}
	got, err := w.put(owner, "new-card", w.encrypt(plain, nil))
	if err != nil || got != want {
		t.Fatalf("stored as %+v, %v", got, err)
	}
	if got, err := w.svc.GetCard(context.Background(), owner, "new-card"); err != nil || got != want {
		t.Errorf("shown as %+v, %v", got, err)
	}
	if payload := string(w.open(w.mustSign(w.request("new-card", "ea85a73a")))); !strings.Contains(payload, "5105105105105100") {
		t.Errorf("payload is %s", payload)
	}
	if _, err := w.put(owner, "new-card", w.encrypt(strings.Replace(plain, "5105105105105100", "5555555555554444", 1), nil)); err != nil {
		t.Fatal(err)
	}
	if got, err := w.svc.GetCard(context.Background(), owner, "new-card"); err != nil || got.Last4 != "4444" {
		t.Errorf("replaced, it is shown as %+v, %v", got, err)
	}
	if err := w.svc.DeleteCard(context.Background(), owner, "new-card"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.svc.DeleteCard(context.Background(), owner, "new-card"); !errors.Is(err, provisioning.ErrUnknownCard) {
			t.Errorf("removed again: %v", err)
		}
	}
	if got := w.count("SELECT COUNT(*) FROM used_messages WHERE state = 'used'"); got != 2 {
		t.Errorf("%d messages are used", got)
	}
}

func (w *world) count(query string) (n int) {
	w.Helper()
	if err := w.db.QueryRow(query).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// A captured message is good for nothing: not again, not for another card, caller, tenant,
// time or purpose.
func TestEncryptedCardReplayedOrMovedIsRefused(t *testing.T) {
	w := newWorld(t)
	used := w.encrypt(plain, map[jose.HeaderKey]any{"jti": "used"})
	if _, err := w.put(owner, "new-card", used); err != nil {
		t.Fatal(err)
	}
	nonce, _ := hex.DecodeString("ea85a73a")
	sum := sha256.Sum256(nonce)
	forNonce := map[jose.HeaderKey]any{"nonceSha256": base64.RawURLEncoding.EncodeToString(sum[:])}
	for name, tc := range map[string]struct {
		who     provisioning.Caller
		id      string
		compact string
		want    error
	}{
		"again":                      {owner, "new-card", used, provisioning.ErrMessageUsed},
		"a new one under a used jti": {owner, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"jti": "used"}), provisioning.ErrMessageUsed},
		"for another card":           {owner, "card-2", w.encrypt(plain, nil), provisioning.ErrEncryptedCard},
		"by another caller":          {other, "new-card", w.encrypt(plain, nil), provisioning.ErrEncryptedCard},
		"by another tenant's clerk":  {stranger, "new-card", w.encrypt(plain, nil), provisioning.ErrEncryptedCard},
		"for another sub":            {owner, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"sub": "user-2"}), provisioning.ErrEncryptedCard},
		"for another iss":            {owner, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"iss": "https://clerk.example"}), provisioning.ErrEncryptedCard},
		"for another tenant":         {clerk, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"tenant": "other bank"}), provisioning.ErrEncryptedCard},
		"expired":                    {owner, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"exp": start.Unix()}), provisioning.ErrEncryptedCard},
		"good for too long":          {owner, "new-card", w.encrypt(plain, map[jose.HeaderKey]any{"exp": start.Add(25 * time.Hour).Unix()}), provisioning.ErrEncryptedCard},
		"meant for one sealing":      {owner, "new-card", w.encrypt(plain, forNonce), provisioning.ErrEncryptedCard},
		"no message":                 {owner, "new-card", plain, provisioning.ErrEncryptedCard},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := w.put(tc.who, tc.id, tc.compact); !errors.Is(err, tc.want) || got != (provisioning.Masked{}) {
				t.Errorf("stored as %+v, %v; want %v", got, err, tc.want)
			}
		})
	}
	if payload := string(w.open(w.mustSign(w.request(demos[0].id, "00000001")))); !strings.Contains(payload, demos[0].pan) {
		t.Errorf("the card is %s", payload)
	}
}

// An id is its owner's. Two owners use the same for a card each and see, replace and remove
// their own; a clerk, who may use all owners' cards, is given neither while there are two.
func TestOwnersMayUseTheSameID(t *testing.T) {
	w := newWorld(t)
	id := demos[0].id
	theirs := map[jose.HeaderKey]any{"sub": "user-2", "externalCardId": id}
	get := func(who provisioning.Caller) string {
		t.Helper()
		got, err := w.svc.GetCard(t.Context(), who, id)
		if err != nil {
			return fmt.Sprint(errors.Is(err, provisioning.ErrUnknownCard))
		}
		return got.Last4
	}
	same := func(when, owners, others, clerks string) {
		t.Helper()
		if diff := cmp.Diff([]string{owners, others, clerks}, []string{get(owner), get(other), get(clerk)}); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	own := demos[0].pan[len(demos[0].pan)-4:]
	same("before", own, "true", own)
	for range 2 { // stored, and stored again
		if _, err := w.put(other, id, w.encrypt(plain, theirs)); err != nil {
			t.Fatal(err)
		}
		same("with both", own, "5100", "true")
	}
	if err := w.svc.DeleteCard(t.Context(), other, id); err != nil {
		t.Fatal(err)
	}
	same("with one again", own, "true", own)
}

func TestEncryptedCardWithWrongDataIsRefusedAndFree(t *testing.T) {
	w := newWorld(t)
	change := func(old, by string) string { return strings.Replace(plain, old, by, 1) }
	for name, tc := range map[string]struct {
		text string
		want provisioning.CardReason
	}{
		"no JSON":                    {"5105105105105100", provisioning.CardData},
		"a wrong check digit":        {change("5105105105105100", "5105105105105101"), provisioning.CardData},
		"no name":                    {change("Jean Pommier", " "), provisioning.CardData},
		"an unknown member":          {change(`"product"`, `"cvv":"123","product"`), provisioning.CardData},
		"a member twice":             {change(`"product"`, `"name":"x","product"`), provisioning.CardData},
		"another product":            {change(`"mastercard"`, `"visa"`), provisioning.CardProduct},
		"auxiliary cards of a card":  {change(`}`, `,"auxiliaryCards":[{"primaryAccountNumber":"6759649826438453","expiration":"01/47","name":"J"}]}`), provisioning.CardData},
		"an expired card":            {change("11/39", "10/26"), provisioning.CardExpired},
		"a supplied block for clear": {change(`}`, `,"encryptedPrimaryAccountNumber":"TUJQ"}`), provisioning.CardData},
	} {
		t.Run(name, func(t *testing.T) {
			compact := w.encrypt(tc.text, map[jose.HeaderKey]any{"jti": name})
			for range 2 { // a message that stored nothing can be sent again
				_, err := w.put(owner, "new-card", compact)
				var card *provisioning.CardError
				if !errors.As(err, &card) || card.Reason != tc.want {
					t.Errorf("error is %v, want %s", err, tc.want)
				}
			}
		})
	}
	if n := w.count("SELECT COUNT(*) FROM cards"); n != len(demos) {
		t.Errorf("%d cards are stored", n)
	}
}

// A card that is not the caller's and one that is not there answer alike, on every
// operation; the right for any owner opens them within its tenant.
func TestCardIsItsOwners(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	operations := map[string]func(who provisioning.Caller, id string) error{
		"get": func(who provisioning.Caller, id string) error { _, err := w.svc.GetCard(ctx, who, id); return err },
		"activation": func(who provisioning.Caller, id string) error {
			_, err := w.svc.ActivationData(ctx, who, provisioning.ActivationRequest{ExternalCardID: id, WalletType: provisioning.ApplePay})
			return err
		},
		"sign": func(who provisioning.Caller, id string) error {
			_, err := w.svc.SignCard(ctx, who, w.request(id, fmt.Sprintf("%08x", len(w.entries()))))
			return err
		},
		"delete": func(who provisioning.Caller, id string) error { return w.svc.DeleteCard(ctx, who, id) },
	}
	for _, name := range []string{"get", "activation", "sign", "delete"} {
		do := operations[name]
		foreign, unknown := do(other, demos[0].id), do(other, "no-such-card")
		if !errors.Is(foreign, provisioning.ErrUnknownCard) || !errors.Is(unknown, provisioning.ErrUnknownCard) || foreign.Error() != unknown.Error() {
			t.Errorf("%s: foreign %v, unknown %v", name, foreign, unknown)
		}
		if err := do(stranger, demos[0].id); !errors.Is(err, provisioning.ErrUnknownCard) {
			t.Errorf("%s by another tenant: %v", name, err)
		}
		if err := do(clerk, demos[0].id); err != nil {
			t.Errorf("%s by the clerk: %v", name, err)
		}
	}
}

func TestInlineCardIsSealedOnceForItsNonceAndNotKept(t *testing.T) {
	w := newWorld(t)
	forNonce := func(nonce string) map[jose.HeaderKey]any {
		raw, _ := hex.DecodeString(nonce)
		sum := sha256.Sum256(raw)
		return map[jose.HeaderKey]any{"nonceSha256": base64.RawURLEncoding.EncodeToString(sum[:]), "jti": nonce}
	}
	inline := func(nonce, compact string) provisioning.SignCard {
		req := w.request("", nonce)
		req.EncryptedCard = compact
		return req
	}
	good := inline("ea85a73a", w.encrypt(plain, forNonce("ea85a73a")))
	out := w.mustSign(good)
	if payload := string(w.open(out)); !strings.Contains(payload, "5105105105105100") || !strings.Contains(payload, "ea85a73a") {
		t.Errorf("payload is %s", payload)
	}
	if n := w.count("SELECT COUNT(*) FROM cards"); n != len(demos) {
		t.Errorf("%d cards are stored", n)
	}
	other := good
	other.NonceSignature = "40" + strings.Repeat("00", 80) // another attempt with the same nonce
	for name, tc := range map[string]struct {
		req  provisioning.SignCard
		want error
	}{
		"again":              {good, provisioning.ErrNonceUsed},
		"in another attempt": {other, provisioning.ErrMessageUsed},
		"for another nonce":  {inline("00000001", w.encrypt(plain, forNonce("00000002"))), provisioning.ErrEncryptedCard},
		"for no nonce":       {inline("00000003", w.encrypt(plain, nil)), provisioning.ErrEncryptedCard},
		"for another card": {func() provisioning.SignCard {
			r := inline("00000004", w.encrypt(plain, forNonce("00000004")))
			r.ExternalCardID = "other"
			return r
		}(), provisioning.ErrEncryptedCard},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.sign(tc.req)
			requireNothing(t, out)
			if !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

func TestActivationDataIsRecordedAndForApplePay(t *testing.T) {
	w := newWorld(t)
	data, err := w.svc.ActivationData(context.Background(), owner, provisioning.ActivationRequest{ExternalCardID: demos[0].id, WalletType: provisioning.ApplePay})
	if err != nil || !strings.HasPrefix(string(data), `{"version":"3"`) {
		t.Errorf("made %s, %v", data, err)
	}
	w.requireLog("operation")
	if _, err := w.svc.ActivationData(context.Background(), owner, provisioning.ActivationRequest{ExternalCardID: demos[0].id, WalletType: "GOOGLE_PAY"}); !errors.Is(err, provisioning.ErrWalletType) {
		t.Errorf("error is %v", err)
	}
	var field *provisioning.FieldError
	if _, err := w.svc.ActivationData(context.Background(), owner, provisioning.ActivationRequest{ExternalCardID: demos[0].id, TokenUniqueReference: "a|b", WalletType: provisioning.ApplePay}); !errors.As(err, &field) {
		t.Errorf("error is %v", err)
	}
}

// A jti is one card's: nobody else's message uses it up.
func TestJTIIsOfItsSubAndCard(t *testing.T) {
	w := newWorld(t)
	for _, h := range []map[jose.HeaderKey]any{
		{}, {"sub": "user-2", "externalCardId": "card-2"}, {"externalCardId": "card-3"},
	} {
		h["jti"] = "one"
		compact := w.encrypt(plain, h)
		if err := w.svc.ImportCard(context.Background(), "bank", "import", compact); err != nil {
			t.Errorf("%v: %v", h, err)
		}
		if err := w.svc.ImportCard(context.Background(), "bank", "import", compact); !errors.Is(err, provisioning.ErrMessageUsed) {
			t.Errorf("%v again: %v", h, err)
		}
	}
}

// iss and sub hold no control characters; refusals of an import are on record.
func TestControlCharactersInAnOwnerAreRefusedOnRecord(t *testing.T) {
	w := newWorld(t)
	for _, h := range []map[jose.HeaderKey]any{{"sub": "user\x00"}, {"iss": "https://a\nb"}, {"sub": "\u0085"}} {
		if err := w.svc.ImportCard(context.Background(), "bank", "import", w.encrypt(plain, h)); !errors.Is(err, provisioning.ErrEncryptedCard) {
			t.Errorf("%q: %v", h, err)
		}
	}
	if log := w.log(); len(log) != 3 || !strings.HasSuffix(log[0], "encrypted-card") {
		t.Errorf("the log is %q", log)
	}
}

// Whoever lost the nonce frees the message that came with it: it can be sent again.
func TestFencedOutRequestFreesItsMessage(t *testing.T) {
	w := newWorld(t)
	raw, _ := hex.DecodeString("ea85a73a")
	sum := sha256.Sum256(raw)
	req := w.request("", "ea85a73a")
	req.EncryptedCard = w.encrypt(plain, map[jose.HeaderKey]any{"nonceSha256": base64.RawURLEncoding.EncodeToString(sum[:])})
	w.hands.after["SealECCv2"] = func() error {
		w.execute("UPDATE apple_nonces SET fence = fence + 1")
		return nil
	}
	out, err := w.sign(req)
	requireNothing(t, out)
	if !errors.Is(err, provisioning.ErrNonceUsed) {
		t.Errorf("error is %v", err)
	}
	if n := w.count("SELECT COUNT(*) FROM used_messages WHERE state = 'free'"); n != 1 {
		t.Errorf("%d messages are free", n)
	}
}

// A block that the network made stands in the payload as it came: once in Base64, in one line.
func TestSuppliedBlockIsBase64Once(t *testing.T) {
	w := newWorld(t)
	block := base64.StdEncoding.EncodeToString([]byte("MBPAD-1-FK-a-network's-block"))
	for name, tc := range map[string]struct {
		text string
		well bool
	}{
		"as it came":        {block, true},
		"with a line end":   {block[:8] + "\n" + block[8:], false},
		"twice":             {base64.StdEncoding.EncodeToString([]byte(block)), false},
		"with stray bits":   {"TUJ=", false},
		"without a padding": {"TUI", false},
	} {
		card := w.card(demos[0])
		card.EncryptedPAN = secret.NewText(tc.text)
		// The rules of fields come before those of the product, which supplies no block.
		_, err := w.svc.StoreCard(context.Background(), owner, "new-card", card)
		if errors.Is(err, provisioning.ErrCardData) == tc.well || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
