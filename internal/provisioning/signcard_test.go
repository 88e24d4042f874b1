package provisioning_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

const (
	began     = "intent sign-card"
	done      = "result done"
	failed    = "result failed failed"
	unknown   = "result refused unknown-card"
	nonceUsed = "refusal sign-card nonce-used"
)

func TestSignedCardIsWhatAppleAndTheNetworkExpect(t *testing.T) {
	w := newWorld(t)
	for i, tc := range []struct {
		demo
		nonce, signature string // as the app sends them
		payload          string
		vouched          string
	}{
		{
			demos[0], "ea85a73a", hex.EncodeToString(nonceSignature),
			`{"expiration":"12\/49","name":"John Appleseed","nonce":"ea85a73a","nonceSignature":"SIGNATURE",` +
				`"primaryAccountNumber":"5204245250001488","productType":"DEFAULT_MASTERCARD","version":"1"}`,
			"5204245250001488|1249|2026-11-22T12:30:00Z",
		},
		{
			demos[1], "C5846FB5", strings.ToUpper(hex.EncodeToString(nonceSignature)),
			`{"expiration":"06\/48","name":"Zoë \"Quote\" O'Brien-Łukasz","nonce":"c5846fb5","nonceSignature":"SIGNATURE",` +
				`"primaryAccountNumber":"5555555555554444","productType":"DEFAULT_MASTERCARD","version":"1"}`,
			"5555555555554444|0648|2026-11-22T12:30:00Z",
		},
		{
			demos[2], base64.StdEncoding.EncodeToString([]byte{0, 0xff, 0x10, 0xab}), base64.StdEncoding.EncodeToString(nonceSignature),
			`{"expiration":"01\/47","name":"Jane Appleseed","nonce":"00ff10ab","nonceSignature":"SIGNATURE",` +
				`"primaryAccountNumber":"6759649826438453","productType":"DEFAULT_MASTERCARD","version":"1"}`,
			"6759649826438453|0147|2026-11-22T12:30:00Z",
		},
	} {
		t.Run(tc.id, func(t *testing.T) {
			w.TB, w.from = t, uint64(len(demos)*2+i*2)
			req := w.request(tc.id, tc.nonce)
			req.NonceSignature = tc.signature
			out := w.mustSign(req)

			payload := w.open(out)
			want := strings.Replace(tc.payload, "SIGNATURE", hex.EncodeToString(nonceSignature), 1)
			if diff := cmp.Diff(want, string(payload)); diff != "" {
				t.Errorf("payload: %s", diff)
			}
			var members map[string]string
			if err := json.Unmarshal(payload, &members); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{
				"primaryAccountNumber": tc.pan, "expiration": tc.expiration, "name": tc.name, "nonce": members["nonce"],
				"nonceSignature": hex.EncodeToString(nonceSignature), "productType": "DEFAULT_MASTERCARD", "version": "1",
			}, members); diff != "" {
				t.Errorf("payload's members: %s", diff)
			}
			requireVouchesFor(t, w, out.ActivationData, tc.vouched)
			requireRecorded(t, w, out, members["nonce"])
		})
	}
	w.TB = t
	w.requireNonces("used 1", "used 1", "used 1")
}

// requireVouchesFor requires activation data whose signature is over this text.
func requireVouchesFor(t testing.TB, w *world, activationData []byte, text string) {
	t.Helper()
	var tav struct {
		Version, SignatureAlgorithm, DataValidUntilTimestamp, IncludedFieldsInOrder string
		Signature                                                                   []byte
	}
	if err := json.Unmarshal(activationData, &tav); err != nil {
		t.Fatal(err)
	}
	if tav.Version != "3" || !strings.HasSuffix(text, "|"+tav.DataValidUntilTimestamp) {
		t.Errorf("activation data are %s", activationData)
	}
	pub, err := w.token.Public(string(hsm.TAVSigning))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(text))
	if err := rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, digest[:], tav.Signature); err != nil {
		t.Errorf("activation data do not vouch for %s: %v", text, err)
	}
}

// requireRecorded requires the two entries of a card that left, and the digests of
// what left in the second.
func requireRecorded(t testing.TB, w *world, out provisioning.SignedCard, nonce string) {
	t.Helper()
	w.requireLog(began, done)
	raw, err := hex.DecodeString(nonce)
	if err != nil {
		t.Fatal(err)
	}
	claim := provisioning.ClaimID("bank", sha256.Sum256(w.apple.Leaf.RawSubjectPublicKeyInfo), raw, nonceSignature)
	var in record.Intent
	var res record.Result
	all := w.entries()
	if err := errors.Join(json.Unmarshal(all[0].Body, &in), json.Unmarshal(all[1].Body, &res)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record.Intent{
		Operation: record.SignCard, Tenant: "bank", Issuer: "https://issuer.example", Subject: "user-1", RequestID: "request-1",
		Refs: map[string]string{"nonceClaim": hex.EncodeToString(claim[:])},
	}, in); diff != "" {
		t.Errorf("intent: %s", diff)
	}
	digest := func(name string, b []byte) record.Digest {
		sum := sha256.Sum256(b)
		return record.Digest{Name: name, SHA256: hex.EncodeToString(sum[:])}
	}
	if diff := cmp.Diff(record.Result{
		Outcome: record.OutcomeDone,
		Outputs: []record.Digest{
			digest("activationData", out.ActivationData), digest("ephemeralPublicKey", out.EphemeralPublicKey), digest("encryptedData", out.EncryptedData),
		},
		Refs: map[string]string{"card": res.Refs["card"]},
	}, res); diff != "" || len(res.Refs["card"]) != 36 {
		t.Errorf("result: %s, card %q", diff, res.Refs["card"])
	}
}

func TestActivationDataOfVersion4NameTheirKey(t *testing.T) {
	w := newWorld(t, func(c *provisioning.Config) {
		c.TAV = provisioning.TAVConfig{Version: signer.TAVv4, KeyAlias: "bank-key-1", Validity: signer.MaxTAVLife}
	})
	out := w.mustSign(w.request("demo-mastercard-1", "ea85a73a"))
	var tav struct{ Version, KeyAlias, DataValidUntilTimestamp string }
	if err := json.Unmarshal(out.ActivationData, &tav); err != nil {
		t.Fatal(err)
	}
	if tav.Version != "4" || tav.KeyAlias != "bank-key-1" || tav.DataValidUntilTimestamp != "2026-12-22T12:00:00Z" {
		t.Errorf("activation data are %s", out.ActivationData)
	}
}

func TestNonceIsGoodForOneCard(t *testing.T) {
	w := newWorld(t)
	w.mustSign(w.request("demo-mastercard-1", "ea85a73a"))
	calls := w.token.Calls()
	again := w.request("demo-mastercard-1", "EA85A73A") // the same bytes in another form
	another := w.request("demo-maestro-1", "6oWnOg==")  // and for another card
	for i, req := range []provisioning.SignCard{again, another, again} {
		w.clock.Add(24 * time.Hour * time.Duration(i)) // no lease makes a used nonce new
		out, err := w.sign(req)
		if !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("request %d: %v, want ErrNonceUsed", i, err)
		}
		requireNothing(t, out)
	}
	if n := w.token.Calls() - calls; n != 0 {
		t.Errorf("the token was asked %d times by losers", n)
	}
	w.requireLog(began, done, nonceUsed, nonceUsed, nonceUsed)
	w.requireNonces("used 1")

	// Four bytes collide: what makes it the same attempt is the signature beside it.
	other := w.request("demo-mastercard-1", "ea85a73a")
	other.NonceSignature = strings.Replace(other.NonceSignature, "c317", "c318", 1)
	w.mustSign(other)
	// So does the leaf that it is sealed to.
	leaf, err := w.root.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	w.apple = leaf
	w.mustSign(w.request("demo-mastercard-1", "ea85a73a"))
	w.requireNonces("used 1", "used 1", "used 1")
}

func TestOfManyRequestsWithOneNonceOneGetsTheCard(t *testing.T) {
	const callers = 200
	w := newWorld(t)
	before := w.token.Stats()
	w.mustSign(w.request("demo-mastercard-1", "00000000"))
	one := w.token.Stats().EphemeralCreated - before.EphemeralCreated
	w.from += 2
	before = w.token.Stats()

	outs, errs := make([]provisioning.SignedCard, callers), make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { outs[i], errs[i] = w.sign(w.request("demo-mastercard-1", "ea85a73a")) })
	}
	all.Wait()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			w.open(outs[i])
			continue
		}
		if !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("request %d: %v", i, err)
		}
		requireNothing(t, outs[i])
	}
	if won != 1 {
		t.Errorf("%d requests got the card", won)
	}
	after := w.token.Stats()
	if made := after.EphemeralCreated - before.EphemeralCreated; made != one || after.EphemeralDestroyed-before.EphemeralDestroyed != one {
		t.Errorf("%d ephemeral objects made and %d destroyed, want %d as for one seal", made, after.EphemeralDestroyed-before.EphemeralDestroyed, one)
	}
	count := map[string]int{}
	for _, line := range w.log() {
		count[line]++
	}
	// Ten losers have entries of their own; the others are one number at the minute's end.
	if diff := cmp.Diff(map[string]int{began: 1, done: 1, nonceUsed: 10}, count); diff != "" {
		t.Errorf("the log: %s", diff)
	}
	w.requireNonces("used 1", "used 1")
}

func TestRequestsWithTheirOwnNoncesAllGetTheirCard(t *testing.T) {
	w := newWorld(t)
	errs := make([]error, 20)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = w.sign(w.request(demos[i%len(demos)].id, fmt.Sprintf("%08x", i))) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if st := w.token.Stats(); st.EphemeralCreated != st.EphemeralDestroyed {
		t.Errorf("ephemeral objects: %+v", st)
	}
	if n := len(w.entries()); n != 2*len(errs) {
		t.Errorf("%d entries, want %d", n, 2*len(errs))
	}
}

// A card that is not the caller's and one that is not there are the same to him, and
// cost him no nonce.
func TestCardOfSomebodyElseIsUnknown(t *testing.T) {
	w := newWorld(t)
	for i, tc := range []struct {
		name   string
		change func(*provisioning.Caller)
		id     string
	}{
		{"no such card", func(*provisioning.Caller) {}, "no-such-card"},
		{"id in other letters", func(*provisioning.Caller) {}, "DEMO-MASTERCARD-1"},
		{"same subject of another issuer", func(c *provisioning.Caller) { c.Issuer = "https://other.example" }, "demo-mastercard-1"},
		{"another subject", func(c *provisioning.Caller) { c.Subject = "user-2" }, "demo-mastercard-1"},
		{"no subject", func(c *provisioning.Caller) { c.Subject = "" }, "demo-mastercard-1"},
		{"another tenant", func(c *provisioning.Caller) { c.Tenant = "other bank" }, "demo-mastercard-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.TB, w.from = t, uint64(len(demos)*2+i*4)
			who := owner
			tc.change(&who)
			req := w.request(tc.id, fmt.Sprintf("%08x", i))
			seals := w.token.CallsOf("agree-and-seal") + w.token.CallsOf("sign") + w.token.CallsOf("decrypt")
			for range 2 { // the second time shows that the nonce was free again
				out, err := w.svc.SignCard(context.Background(), who, req)
				if !errors.Is(err, provisioning.ErrUnknownCard) || err.Error() != provisioning.ErrUnknownCard.Error() {
					t.Errorf("error is %v, want ErrUnknownCard and no more", err)
				}
				requireNothing(t, out)
			}
			if n := w.token.CallsOf("agree-and-seal") + w.token.CallsOf("sign") + w.token.CallsOf("decrypt") - seals; n != 0 {
				t.Errorf("the token opened, sealed or signed %d times", n)
			}
			w.requireLog(began, unknown, began, unknown)
		})
	}
	w.TB = t
	// The nonce is the owner's to use.
	w.mustSign(w.request("demo-mastercard-1", "00000003"))
	w.requireNonces("free 2", "free 2", "free 2", "free 2", "free 2", "used 3")
}

func TestExpiredCardIsRefusedAndTheNonceStaysFree(t *testing.T) {
	w := newWorld(t)
	req := w.request("demo-maestro-1", "ea85a73a") // 01/47
	w.clock.Add(time.Date(2047, 2, 1, 0, 0, 0, 0, time.UTC).Sub(start))
	out, err := w.sign(req)
	var card *provisioning.CardError
	if !errors.As(err, &card) || card.Reason != provisioning.CardExpired {
		t.Errorf("error is %v, want card-expired", err)
	}
	requireNothing(t, out)
	w.requireLog(began, "result refused card-expired")
	w.requireNonces("free 1")
	if n := w.token.CallsOf("agree-and-seal"); n != 0 {
		t.Errorf("sealed %d times", n)
	}

	w.clock.Add(-time.Millisecond) // the last moment of its month
	w.mustSign(req)
	w.requireNonces("used 2")
}

// Who would have card data sealed to somebody else leaves a record, and costs nobody a
// nonce or the token's time.
func TestChainThatIsNotApplesIsRefusedOnRecord(t *testing.T) {
	w := newWorld(t)
	other, err := appletest.New(start)
	if err != nil {
		t.Fatal(err)
	}
	chain := func(a *appletest.Authority, o ...appletest.LeafOption) [][]byte {
		t.Helper()
		leaf, err := a.Leaf(o...)
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Chain()
	}
	for i, tc := range []struct {
		name   string
		change func(*provisioning.SignCard)
		reason string
	}{
		{"none", func(r *provisioning.SignCard) { r.Certificates = nil }, string(provisioning.ReasonTooFew)},
		{"somebody else's root", func(r *provisioning.SignCard) { r.Certificates = chain(other) }, string(provisioning.ReasonUntrustedRoot)},
		{"no marker", func(r *provisioning.SignCard) { r.Certificates = chain(w.root, appletest.WithoutMarker()) }, string(provisioning.ReasonMarkerMissing)},
		{"expired leaf", func(r *provisioning.SignCard) {
			r.Certificates = chain(w.root, appletest.Valid(start.Add(-time.Hour), start.Add(-time.Second)))
		}, string(provisioning.ReasonLeafExpired)},
		{"the wrong way round", func(r *provisioning.SignCard) { slices.Reverse(r.Certificates) }, string(provisioning.ReasonSwappedOrder)},
		{"another wallet", func(r *provisioning.SignCard) { r.WalletType = "GOOGLE_PAY" }, "wallet-type"},
		{"no wallet", func(r *provisioning.SignCard) { r.WalletType = "" }, "wallet-type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.TB, w.from = t, uint64(len(demos)*2+i)
			req := w.request("demo-mastercard-1", "ea85a73a")
			tc.change(&req)
			calls := w.token.Calls()
			out, err := w.sign(req)
			requireNothing(t, out)
			var refused *provisioning.ChainError
			switch {
			case tc.reason == "wallet-type":
				if !errors.Is(err, provisioning.ErrWalletType) {
					t.Errorf("error is %v, want ErrWalletType", err)
				}
			case !errors.As(err, &refused) || string(refused.Reason) != tc.reason:
				t.Errorf("error is %v, want %s", err, tc.reason)
			}
			if n := w.token.Calls() - calls; n != 0 {
				t.Errorf("the token was asked %d times", n)
			}
			w.requireLog("refusal sign-card " + tc.reason)
			w.requireNonces()
		})
	}
	w.TB = t
	t.Run("and when it cannot be recorded", func(t *testing.T) {
		defer w.failEntries(audit.KindRefusal)()
		req := w.request("demo-mastercard-1", "ea85a73a")
		req.Certificates = nil
		out, err := w.sign(req)
		requireNothing(t, out)
		requireRetry(t, err)
		var refused *provisioning.ChainError
		if !errors.As(err, &refused) {
			t.Errorf("error %v is no refusal any more", err)
		}
	})
	w.mustSign(w.request("demo-mastercard-1", "ea85a73a"))
}

func TestMalformedRequestLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	calls := w.token.Calls()
	for name, tc := range map[string]struct {
		change func(*provisioning.SignCard)
		member string
	}{
		"no card id":           {func(r *provisioning.SignCard) { r.ExternalCardID = "" }, "externalCardId"},
		"card id with a blank": {func(r *provisioning.SignCard) { r.ExternalCardID = "demo mastercard" }, "externalCardId"},
		"no nonce":             {func(r *provisioning.SignCard) { r.Nonce = "" }, "nonce"},
		"short nonce":          {func(r *provisioning.SignCard) { r.Nonce = "ea85a7" }, "nonce"},
		"nonce of other signs": {func(r *provisioning.SignCard) { r.Nonce = "{}" }, "nonce"},
		"no signature":         {func(r *provisioning.SignCard) { r.NonceSignature = "" }, "nonceSignature"},
		"long signature":       {func(r *provisioning.SignCard) { r.NonceSignature += "00" }, "nonceSignature"},
		"also a wrong chain":   {func(r *provisioning.SignCard) { r.Nonce, r.Certificates = "", nil }, "nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			req := w.request("demo-mastercard-1", "ea85a73a")
			tc.change(&req)
			out, err := w.sign(req)
			requireNothing(t, out)
			var field *provisioning.FieldError
			var nonce *provisioning.NonceError
			if !(errors.As(err, &field) && field.Member == tc.member) && !(errors.As(err, &nonce) && nonce.Member == tc.member) {
				t.Errorf("error is %v, want one about %s", err, tc.member)
			}
		})
	}
	w.requireLog()
	w.requireNonces()
	if n := w.token.Calls() - calls; n != 0 {
		t.Errorf("the token was asked %d times", n)
	}
}
