package provisioning_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// Trouble in the middle: it is on record, nothing leaves, and the nonce is free for
// the next try.
func TestTokenThatFailsInTheMiddleCostsNoNonce(t *testing.T) {
	for _, op := range []string{"CardIndex", "OpenVault", "SealECCv2", "SignTAV"} {
		for when, fault := range map[string]func(*world) map[string]func() error{
			"before": func(w *world) map[string]func() error { return w.hands.before },
			"after":  func(w *world) map[string]func() error { return w.hands.after },
		} {
			t.Run(op+", "+when, func(t *testing.T) {
				w := newWorld(t)
				fault(w)[op] = func() error { return errAway }
				req := w.request("demo-mastercard-1", "ea85a73a")
				for range 2 {
					out, err := w.sign(req)
					requireNothing(t, out)
					requireRetry(t, err)
					if !errors.Is(err, errAway) || errors.Is(err, provisioning.ErrNonceUsed) {
						t.Errorf("error is %v", err)
					}
				}
				w.requireLog(began, failed, began, failed)
				w.requireNonces("free 2")
				delete(fault(w), op)
				w.mustSign(req)
				w.requireNonces("used 3")
				if st := w.token.Stats(); st.EphemeralCreated != st.EphemeralDestroyed {
					t.Errorf("ephemeral objects: %+v", st)
				}
			})
		}
	}
}

func TestTokenThatIsGoneAndComesBackCostsNoNonce(t *testing.T) {
	w := newWorld(t)
	req := w.request("demo-mastercard-1", "ea85a73a")
	if err := w.token.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	out, err := w.sign(req)
	requireNothing(t, out)
	requireRetry(t, err)
	w.requireLog() // what is known to be down is no reason to claim anything
	w.token.Reopen(t, func(*hsm.Keyring) {})
	w.hands.Gate = signer.New(w.token.Token)
	w.mustSign(req)
}

func TestDatabaseThatCannotFindTheCardCostsNoNonce(t *testing.T) {
	cards := &lostCards{}
	w := newWorld(t, func(c *provisioning.Config) { cards.Cards, c.Cards = c.Cards, cards })
	cards.err = errAway
	req := w.request("demo-mastercard-1", "ea85a73a")
	out, err := w.sign(req)
	requireNothing(t, out)
	requireRetry(t, err)
	w.requireLog(began, failed)
	cards.err = nil
	w.mustSign(req)
}

// lostCards cannot be asked while err is set.
type lostCards struct {
	provisioning.Cards
	err error
}

func (c *lostCards) FindCard(ctx context.Context, owner provisioning.Owner, lookup []byte) (provisioning.CardRow, error) {
	if c.err != nil {
		return provisioning.CardRow{}, c.err
	}
	return c.Cards.FindCard(ctx, owner, lookup)
}

// Without an intent on record the token is not asked.
func TestIntentThatCannotBeRecordedStopsEverything(t *testing.T) {
	w := newWorld(t)
	calls := w.token.Calls()
	mend := w.failEntries(audit.KindIntent)
	req := w.request("demo-mastercard-1", "ea85a73a")
	out, err := w.sign(req)
	requireNothing(t, out)
	requireRetry(t, err)
	if strings.Contains(err.Error(), "driver") {
		t.Errorf("error %q shows the driver's text", err)
	}
	if n := w.token.Calls() - calls; n != 0 {
		t.Errorf("the token was asked %d times", n)
	}
	w.requireLog()
	w.requireNonces()
	mend()
	w.mustSign(req)
}

// Without a result on record nothing leaves. The nonce is not free, for nobody could
// record that it is; it is again once the lease has run out.
func TestResultThatCannotBeRecordedReleasesNothing(t *testing.T) {
	for name, fault := range map[string]func(w *world){
		"of a card that was made": func(*world) {},
		"of a token that failed":  func(w *world) { w.hands.before["SignTAV"] = func() error { return errAway } },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			fault(w)
			mend := w.failEntries(audit.KindResult)
			req := w.request("demo-mastercard-1", "ea85a73a")
			out, err := w.sign(req)
			requireNothing(t, out)
			requireRetry(t, err)
			if errors.Is(err, provisioning.ErrNonceUsed) || strings.Contains(err.Error(), "driver") {
				t.Errorf("error is %q", err)
			}
			w.requireLog(began)
			w.requireNonces("claimed 1")
			mend()
			clear(w.hands.before)

			w.clock.Add(lease - 1)
			if out, err = w.sign(req); !errors.Is(err, provisioning.ErrNonceUsed) {
				t.Errorf("while the lease runs: %v, want ErrNonceUsed", err)
			}
			requireNothing(t, out)
			w.clock.Add(1)
			w.mustSign(req)
			w.requireLog(began, nonceUsed, began, done)
			w.requireNonces("used 2")
		})
	}
}

// A is slow: its lease runs out inside the gate, and B takes the nonce over and
// finishes. One card leaves, B's; and how A ended is on record too.
func TestRequestThatOutlivesItsLeaseReleasesNothing(t *testing.T) {
	const fencedOut = "result refused nonce-used"
	for name, tc := range map[string]struct {
		then  error // how A's call ends, after B
		early bool  // B is still at work when A ends, and ends after it
		log   []string
	}{
		"and then succeeds":                          {nil, false, []string{began, began, done, fencedOut}},
		"and then fails":                             {errAway, false, []string{began, began, done, failed}},
		"while the other is still at work":           {nil, true, []string{began, began, fencedOut, done}},
		"and fails while the other is still at work": {errAway, true, []string{began, began, failed, done}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req := w.request("demo-mastercard-1", "ea85a73a")
			endA := make(chan struct{}) // closed when A may leave the gate
			endedA := make(chan struct{})
			inGateA, inGateB := make(chan struct{}), make(chan struct{})
			entered := 0
			w.hands.after["SealECCv2"] = func() error { // A's first, then B's
				if entered++; entered == 1 {
					close(inGateA)
					<-endA
					return tc.then
				}
				close(inGateB)
				if tc.early {
					<-endedA
				}
				return nil
			}
			var outA provisioning.SignedCard
			var errA error
			go func() {
				defer close(endedA)
				outA, errA = w.sign(req)
			}()
			<-inGateA
			w.clock.Add(lease)
			var outB provisioning.SignedCard
			var errB error
			endedB := make(chan struct{})
			go func() {
				defer close(endedB)
				outB, errB = w.sign(req)
			}()
			<-inGateB
			if !tc.early {
				<-endedB
			}
			close(endA)
			<-endedA
			<-endedB

			if !errors.Is(errA, provisioning.ErrNonceUsed) || !errors.Is(errA, tc.then) && tc.then != nil {
				t.Errorf("A: %v, want ErrNonceUsed", errA)
			}
			requireNothing(t, outA)
			if errB != nil {
				t.Fatalf("B: %v", errB)
			}
			w.open(outB)
			w.requireLog(tc.log...)
			w.requireNonces("used 2")
			tickets := map[string]int{}
			for _, e := range w.entries() {
				tickets[e.Ticket]++
			}
			for ticket, n := range tickets {
				if n != 2 {
					t.Errorf("ticket %s has %d entries, want intent and result", ticket, n)
				}
			}
		})
	}
}

// A caller who hangs up does not undo what the token did: it is on record.
func TestCallerWhoHangsUpIsRecordedAllTheSame(t *testing.T) {
	for name, tc := range map[string]struct {
		at    func(w *world) map[string]func() error
		op    string
		ok    bool
		log   []string
		nonce string
	}{
		"after the token's work": {
			func(w *world) map[string]func() error { return w.hands.after }, "SignTAV", true,
			[]string{began, done}, "used 1",
		},
		"before the seal": {
			func(w *world) map[string]func() error { return w.hands.before }, "SealECCv2", false,
			[]string{began, failed}, "free 1",
		},
		"before the card was looked for": {
			func(w *world) map[string]func() error { return w.hands.after }, "CardIndex", false,
			[]string{began, failed}, "free 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, hangUp := context.WithCancel(context.Background())
			tc.at(w)[tc.op] = func() error { hangUp(); return nil }
			out, err := w.svc.SignCard(ctx, owner, w.request("demo-mastercard-1", "ea85a73a"))
			if (err == nil) != tc.ok {
				t.Errorf("error is %v", err)
			}
			if tc.ok {
				w.open(out)
			} else {
				requireNothing(t, out)
			}
			w.requireLog(tc.log...)
			w.requireNonces(tc.nonce)
		})
	}
	t.Run("before anything began", func(t *testing.T) {
		w := newWorld(t)
		ctx, hangUp := context.WithCancel(context.Background())
		hangUp()
		out, err := w.svc.SignCard(ctx, owner, w.request("demo-mastercard-1", "ea85a73a"))
		requireNothing(t, out)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		w.requireLog()
		w.requireNonces()
	})
}

// What stands in the vault and is no card of ours goes to nobody.
func TestStoredDataThatBreakTheRulesAreRefused(t *testing.T) {
	const canary = "5204245250001488"
	for name, data := range map[string]string{
		"no card":      `{}`,
		"not JSON":     canary,
		"wrong number": `{"primaryAccountNumber":"5204245250001489","expiration":"12/49","name":"John Appleseed","product":"mastercard"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.putRow("odd-card", data)
			out, err := w.sign(w.request("odd-card", "ea85a73a"))
			requireNothing(t, out)
			var card *provisioning.CardError
			if !errors.As(err, &card) || card.Reason != provisioning.CardData {
				t.Errorf("error is %v, want card-data", err)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error %q shows the number", err)
			}
			w.requireLog(began, "result refused card-data")
			w.requireNonces("free 1")
		})
	}
}

// putRow seals data of any form as a card of owner, and starts the log after it.
func (w *world) putRow(externalID, data string) {
	w.Helper()
	ctx := context.Background()
	log := w.rec
	ticket, err := log.Begin(ctx, record.Intent{Operation: record.StoreCard, Tenant: owner.Tenant})
	if err != nil {
		w.Fatal(err)
	}
	lookup, err := w.hands.CardIndex(ctx, ticket, owner.Tenant, externalID)
	if err != nil {
		w.Fatal(err)
	}
	v, err := w.hands.SealVault(ctx, ticket, owner.Tenant, "odd-row", []byte(data))
	if err != nil {
		w.Fatal(err)
	}
	row := provisioning.CardRow{Owner: owner.Owner, ID: "odd-row", Lookup: lookup, Key: v.Key, IV: v.IV, Sealed: v.Sealed, Created: start}
	if _, err := log.Conclude(ctx, ticket, record.Done(), row); err != nil {
		w.Fatal(err)
	}
	w.from += 2
}

// Whoever can write the database cannot have one card's data sealed in another's place.
func TestRowThatWasMovedInTheDatabaseDoesNotServe(t *testing.T) {
	for name, move := range map[string]string{
		"another card's data": `UPDATE cards SET iv = o.iv, sealed = o.sealed FROM (SELECT iv, sealed, id FROM cards) AS o WHERE cards.id <> o.id`,
		"changed data":        `UPDATE cards SET sealed = zeroblob(length(sealed))`,
		"another key":         `UPDATE cards SET vault_key = 'tav-signing'`,
		"another row":         `UPDATE cards SET id = 'x' || id`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.execute(move)
			out, err := w.sign(w.request("demo-mastercard-1", "ea85a73a"))
			requireNothing(t, out)
			if err == nil || errors.Is(err, provisioning.ErrUnknownCard) {
				t.Errorf("error is %v", err)
			}
			w.requireLog(began, failed)
			w.requireNonces("free 1")
			if n := w.token.CallsOf("agree-and-seal"); n != 0 {
				t.Errorf("sealed %d times", n)
			}
		})
	}
}

// The database, its log and the records have nothing of a card in the clear, after
// every kind of outcome.
func TestDatabaseHoldsNoCardDataInTheClear(t *testing.T) {
	w := newWorld(t)
	odd := demo{"canary-card", "5105105105105100", "11/39", "Canary Zwitscherling"}
	if _, err := w.svc.StoreCard(context.Background(), owner, odd.id, w.card(odd)); err != nil {
		t.Fatal(err)
	}
	w.from += 2
	req := w.request(odd.id, "ea85a73a")
	w.hands.before["SignTAV"] = func() error { return errAway }
	_, _ = w.sign(req) // fails
	clear(w.hands.before)
	out := w.mustSign(req)
	_, _ = w.sign(req)                                   // nonce used
	_, _ = w.sign(w.request("no-such-card", "00000001")) // unknown card
	_, _ = w.sign(w.request(odd.id, odd.pan+"0000"))     // malformed
	req.WalletType = odd.pan
	_, _ = w.sign(req) // refused
	w.clock.Add(20 * 365 * 24 * time.Hour)
	_, _ = w.sign(w.request(odd.id, "00000002")) // expired
	w.requireLog(began, failed, began, done, nonceUsed, began, unknown, "refusal sign-card wallet-type", began, "result refused card-expired")
	canaries := []string{odd.pan, odd.expiration, `11\/39`, odd.name, "Zwitscherling", string(out.ActivationData)}
	for _, d := range demos {
		canaries = append(canaries, d.pan, d.name)
	}
	files := filepath.Join(filepath.Dir(w.path), "*")
	all := w.files(files)
	if !bytes.Contains(all, []byte("card-expired")) || !bytes.Contains(all, []byte("user-1")) {
		t.Fatalf("the files %q do not hold the database", files)
	}
	for _, e := range w.entries() {
		all = append(all, e.Body...)
	}
	for _, c := range canaries {
		if bytes.Contains(all, []byte(c)) {
			t.Errorf("%q is in the database", c)
		}
	}
}
