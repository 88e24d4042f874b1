package signer_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// Whether an operation has a chance is known without asking the token.
func TestReadyKnowsWhatAnOperationNeeds(t *testing.T) {
	needs := map[record.Operation][]hsm.Purpose{
		record.SignCard:           {hsm.CardIndex, hsm.CardVault}, // the network's key is its product's
		record.ActivationData:     {hsm.CardIndex, hsm.CardVault},
		record.StoreCard:          {hsm.CardIndex, hsm.CardVault, hsm.CardTransport},
		record.ReadCard:           {hsm.CardIndex, hsm.CardVault},
		record.DeleteCard:         {hsm.CardIndex},
		record.SignMerchantToken:  {hsm.MerchantJWT},
		record.SignProximityToken: {hsm.ProximityToken},
		record.CheckMerchantToken: nil,
		record.DecideProvisioning: {hsm.CardIndex},
		record.ActivateToken:      {hsm.CardIndex, hsm.CardVault},
		record.SendPasscode:       {hsm.CardIndex, hsm.CardVault, hsm.Passcode},
		record.VerifyPasscode:     {hsm.Passcode},
		record.CallNetwork:        {hsm.ConnectorJWS},
	}
	token := hsmtest.New(t)
	var all []hsm.Key
	for _, missing := range append(hsm.Purposes(), "") {
		token.Reopen(t, func(ring *hsm.Keyring) {
			if all == nil {
				all = slices.Clone(ring.Keys)
			}
			ring.Keys = slices.DeleteFunc(slices.Clone(all), func(k hsm.Key) bool { return k.Purpose == missing })
		})
		gate := signer.New(token.Token)
		for op, purposes := range needs {
			err := gate.Ready(op)
			var unusable *hsm.KeyError
			if lacks := slices.Contains(purposes, missing); errors.As(err, &unusable) != lacks || (err != nil) != lacks {
				t.Errorf("%s without %q: %v", op, missing, err)
			}
		}
		if err := gate.ReadyInline(); (err != nil) != (missing == hsm.CardTransport || missing == hsm.CardIndex) {
			t.Errorf("an inline card without %q: %v", missing, err)
		}
		if token.Calls() != 0 {
			t.Errorf("the token was asked %d times", token.Calls())
		}
	}
	if err := token.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for op := range needs {
		if err := signer.New(token.Token).Ready(op); !errors.Is(err, hsm.ErrClosed) {
			t.Errorf("%s while the token is closed: %v", op, err)
		}
	}
}

// No test leaves a goroutine behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

// Tickets are made here as the recorder makes them, under a new id each.
var lastTicket int

func ticket(op record.Operation) *record.Ticket {
	lastTicket++
	return record.IssueTicket("ticket-"+strconv.Itoa(lastTicket), record.Intent{Operation: op, Tenant: "bank"})
}

// receipt is what the recorder gives once the outputs are on record.
func receipt(t *record.Ticket, outputs ...record.Digest) *record.Receipt {
	return record.IssueReceipt(t, record.Done(outputs...))
}

func release(t testing.TB, ticket *record.Ticket, held record.Held[[]byte]) []byte {
	t.Helper()
	out, err := held.Release(receipt(ticket, held.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pan(t testing.TB, digits string) secret.PAN {
	t.Helper()
	p, err := secret.ParsePAN([]byte(digits))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// aKey is somebody's P-256 key.
func aKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// An operation is one use of the gate with input that is in order.
type operation struct {
	forOps []record.Operation // the operations whose tickets it takes
	needs  hsm.Purpose        // empty if it needs no key of the keyring
	do     func(*record.Ticket) error
}

// operations is every use of the gate.
func operations(t testing.TB, gate *signer.Gate) map[string]operation {
	ctx := context.Background()
	peer := aKey(t).PublicKey()
	sealed, err := gate.SealVault(ctx, ticket(record.StoreCard), "bank", "row", []byte("data"))
	if err != nil {
		var unusable *hsm.KeyError
		if !errors.As(err, &unusable) {
			t.Fatal(err)
		}
		sealed = signer.VaultRow{Key: string(hsm.CardVault), IV: make([]byte, 12), Sealed: make([]byte, 32)}
	}
	return map[string]operation{
		"SealECCv2": {[]record.Operation{record.SignCard}, "", func(tk *record.Ticket) error {
			_, err := gate.SealECCv2(ctx, tk, peer, []byte("payload"))
			return err
		}},
		"SignTAV": {[]record.Operation{record.SignCard}, hsm.TAVSigning, func(tk *record.Ticket) error {
			_, err := gate.SignTAV(ctx, tk, tav(t))
			return err
		}},
		"SealVault": {[]record.Operation{record.StoreCard}, hsm.CardVault, func(tk *record.Ticket) error {
			_, err := gate.SealVault(ctx, tk, "bank", "row", []byte("data"))
			return err
		}},
		"OpenVault": {[]record.Operation{record.SignCard}, hsm.CardVault, func(tk *record.Ticket) error {
			_, err := gate.OpenVault(ctx, tk, "bank", "row", sealed)
			return err
		}},
		"CardIndex": {[]record.Operation{record.SignCard, record.StoreCard}, hsm.CardIndex, func(tk *record.Ticket) error {
			_, err := gate.CardIndex(ctx, tk, "bank", "card-1")
			return err
		}},
		"SignMerchantJWT": {[]record.Operation{record.SignMerchantToken}, hsm.MerchantJWT, func(tk *record.Ticket) error {
			_, err := gate.SignMerchantJWT(ctx, tk, jwt.MapClaims{"sub": "user-1"})
			return err
		}},
		"SignProximityToken": {[]record.Operation{record.SignProximityToken}, hsm.ProximityToken, func(tk *record.Ticket) error {
			_, err := gate.SignProximityToken(ctx, tk, jwt.MapClaims{"jti": "id"})
			return err
		}},
		"SelfSign, RSA": {[]record.Operation{record.CertifyKey}, hsm.MerchantJWT, func(tk *record.Ticket) error {
			_, err := gate.SelfSign(ctx, tk, selfSigned(hsm.MerchantJWT))
			return err
		}},
		"SelfSign, P-256": {[]record.Operation{record.CertifyKey}, hsm.APITLS, func(tk *record.Ticket) error {
			_, err := gate.SelfSign(ctx, tk, selfSigned(hsm.APITLS))
			return err
		}},
	}
}

func TestNoTicketNoCallToTheToken(t *testing.T) {
	token := hsmtest.New(t)
	known := []record.Operation{
		record.SignCard, record.StoreCard, record.SignMerchantToken, record.CheckMerchantToken, record.SignProximityToken, record.CertifyKey,
	}
	for name, op := range operations(t, signer.New(token.Token)) {
		t.Run(name, func(t *testing.T) {
			refused := func(what string, tk *record.Ticket) {
				t.Helper()
				before := token.Calls()
				if err := op.do(tk); !errors.Is(err, record.ErrNoTicket) {
					t.Errorf("%s: %v, want ErrNoTicket", what, err)
				}
				if n := token.Calls() - before; n != 0 {
					t.Errorf("%s: the token was asked %d times", what, n)
				}
			}
			refused("no ticket", nil)
			refused("a ticket that nobody issued", &record.Ticket{})
			refused("a ticket without an id", record.IssueTicket("", record.Intent{Operation: op.forOps[0]}))
			refused("a ticket for something else", ticket("another.operation"))
			for _, other := range known {
				good := ticket(other)
				if !slices.Contains(op.forOps, other) {
					refused("a ticket for "+string(other), good)
					continue
				}
				before := token.Calls()
				if err := op.do(good); err != nil {
					t.Errorf("%s: %v", other, err)
				}
				if n := token.Calls() - before; n != 1 {
					t.Errorf("%s: the token was asked %d times", other, n)
				}
				refused("the same ticket again", good)
			}
		})
	}
}

// An operation that consumes nothing has its intent recorded with its result. Its ticket is
// good for the same, and its output as locked.
func TestDeferredTicketIsGoodForItsOperationOnce(t *testing.T) {
	token := hsmtest.New(t)
	for name, op := range operations(t, signer.New(token.Token)) {
		for _, its := range op.forOps {
			before := token.Calls()
			tk := record.IssueDeferredTicket("deferred", record.Intent{Operation: its})
			if err := op.do(tk); err != nil || token.Calls() != before+1 {
				t.Errorf("%s for %s: %v, %d calls", name, its, err, token.Calls()-before)
			}
			if err := op.do(tk); !errors.Is(err, record.ErrNoTicket) || token.Calls() != before+1 {
				t.Errorf("%s for %s, again: %v, %d calls", name, its, err, token.Calls()-before)
			}
		}
	}
}

// One ticket is for one whole: each output once, in any order.
func TestOneTicketMakesEachOutputOnce(t *testing.T) {
	token := hsmtest.New(t)
	all := operations(t, signer.New(token.Token))
	one := ticket(record.SignCard)
	for range 2 {
		for _, name := range []string{"CardIndex", "OpenVault", "SealECCv2", "SignTAV"} {
			_ = all[name].do(one)
		}
	}
	if n := token.CallsOf("hmac") + token.CallsOf("decrypt") + token.CallsOf("agree-and-seal") + token.CallsOf("sign"); n != 4 {
		t.Errorf("the token was asked %d times, want 4", n)
	}
	if st := token.Stats(); st.EphemeralCreated == 0 || st.EphemeralCreated != st.EphemeralDestroyed {
		t.Errorf("ephemeral objects: %+v", st)
	}
}

// A key that is missing degrades what needs it and nothing else, and is a matter of
// availability to callers.
func TestPurposeWithoutAnActiveKeyDegradesItsOwnAlone(t *testing.T) {
	var others []hsmtest.Option
	for _, p := range hsm.Purposes() {
		others = append(others, hsmtest.With(hsm.NewKey{Name: "retired-" + string(p), Purpose: p, State: hsm.Retired}),
			hsmtest.With(hsm.NewKey{Name: "next-" + string(p), Purpose: p, State: hsm.Next}))
	}
	for _, missing := range hsm.Purposes() {
		t.Run(string(missing), func(t *testing.T) {
			token := hsmtest.New(t, others...)
			token.Reopen(t, func(ring *hsm.Keyring) {
				ring.Keys = slices.DeleteFunc(ring.Keys, func(k hsm.Key) bool { return k.Name == string(missing) })
			})
			for name, op := range operations(t, signer.New(token.Token)) {
				checkDegraded(t, token, name, op, missing)
			}
		})
	}
}

// checkDegraded does one operation where a purpose has no active key.
func checkDegraded(t *testing.T, token *hsmtest.Token, name string, op operation, missing hsm.Purpose) {
	t.Helper()
	before := token.Calls()
	err := op.do(ticket(op.forOps[0]))
	if op.needs != missing {
		if err != nil {
			t.Errorf("%s, which needs it not: %v", name, err)
		}
		return
	}
	var later interface{ RetryAfter() time.Duration }
	if !errors.As(err, &later) || later.RetryAfter() <= 0 {
		t.Errorf("%s: %v has no RetryAfter", name, err)
	}
	if n := token.Calls() - before; n != 0 {
		t.Errorf("%s: the token was asked %d times", name, n)
	}
}

func TestTokenThatIsGoneIsAMatterOfAvailability(t *testing.T) {
	token := hsmtest.New(t)
	all := operations(t, signer.New(token.Token))
	if err := token.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for name, op := range all {
		err := op.do(ticket(op.forOps[0]))
		var later interface{ RetryAfter() time.Duration }
		if !errors.Is(err, hsm.ErrClosed) || !errors.As(err, &later) {
			t.Errorf("%s: %v, want ErrClosed with RetryAfter", name, err)
		}
	}
}

func TestCallerWhoIsGoneMakesNoWork(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	held, err := gate.SignTAV(ctx, ticket(record.SignCard), tav(t))
	if !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	if out, err := held.Release(record.IssueReceipt(ticket(record.SignCard), record.Done(held.Digest()))); out != nil || err == nil {
		t.Errorf("released %q, %v", out, err)
	}
}
