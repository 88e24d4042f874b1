package merchant_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// lease is how long a bearer token stays claimed by a request that never ends.
const lease = time.Minute

// use takes the bearer token called jti.
func (w *world) use(jti string) *access.TokenUse {
	return w.useOf(&access.TokenUse{Issuer: backend.Issuer, ID: sha256.Sum256([]byte(jti))})
}

func (w *world) useOf(u *access.TokenUse) *access.TokenUse {
	now := w.clock.Now()
	u.Now, u.Until, u.Expires = now, now.Add(lease), start.Add(15*time.Minute)
	return u
}

// An attempt is one of the two operations under a bearer token that is good for one use.
type attempt struct {
	name string
	do   func(w *world, jti string) (released string, err error)
}

var attempts = []attempt{
	{"sign-token", func(w *world, jti string) (string, error) {
		who := backend
		who.Claims = []record.Claim{w.use(jti)}
		out, err := w.sign(who, request())
		return out.Token, err
	}},
	{"sign-proximity", func(w *world, jti string) (string, error) {
		who := app
		who.Claims = []record.Claim{w.use(jti)}
		out, err := w.svc.ProximityToken(context.Background(), who, claims())
		return out.Token, err
	}},
}

func TestBearerTokenIsGoodForOne(t *testing.T) {
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			if out, err := a.do(w, "jti-1"); err != nil || out == "" {
				t.Fatalf("%q, %v", out, err)
			}
			w.requireLog("intent "+a.name, "result done")
			w.requireClaims("used 1")
			calls := w.token.Calls()
			for range 3 {
				if out, err := a.do(w, "jti-1"); out != "" || !errors.Is(err, access.ErrReplayed) {
					t.Errorf("used again: %q, %v", out, err)
				}
				w.clock.Add(4 * time.Minute) // as long as it lives
			}
			w.requireCalls(0, calls)
			w.requireLog("intent "+a.name, "result done")
			if out, err := a.do(w, "jti-2"); err != nil || out == "" {
				t.Errorf("another one: %q, %v", out, err)
			}
		})
	}
}

// Of requests with one bearer token at once one is answered, and the token works for one.
func TestBearerTokenInUseIsRefusedBeforeTheToken(t *testing.T) {
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			w.hands.before = func() error {
				w.hands.before = nil
				if out, err := a.do(w, "jti-1"); out != "" || !errors.Is(err, access.ErrReplayed) {
					t.Errorf("while the first is at work: %q, %v", out, err)
				}
				return nil
			}
			if out, err := a.do(w, "jti-1"); err != nil || out == "" {
				t.Errorf("%q, %v", out, err)
			}
			w.requireCalls(1, 0)
			w.requireClaims("used 1")
		})
	}
}

func TestFailureFreesTheBearerToken(t *testing.T) {
	for _, a := range attempts {
		for name, fail := range map[string]func(w *world) (mend func()){
			"before the signature": func(w *world) func() {
				w.hands.before = func() error { return errAway }
				return func() { w.hands.before = nil }
			},
			"after the signature": func(w *world) func() {
				w.hands.after = func() error { return errAway }
				return func() { w.hands.after = nil }
			},
			"the token goes away under it": func(w *world) func() {
				w.hands.before = func() error { return w.token.Close(context.Background()) }
				return func() {
					w.hands.before = nil
					w.token.Reopen(w, func(*hsm.Keyring) {})
					w.hands.Gate = signer.New(w.token.Token)
				}
			},
		} {
			t.Run(a.name+", "+name, func(t *testing.T) {
				w := newWorld(t)
				mend := fail(w)
				out, err := a.do(w, "jti-1")
				requireRetry(t, err)
				if out != "" || errors.Is(err, access.ErrReplayed) {
					t.Errorf("%q, %v", out, err)
				}
				w.requireLog("intent "+a.name, "result failed failed")
				w.requireClaims("free 1")
				mend()
				if out, err := a.do(w, "jti-1"); err != nil || out == "" {
					t.Errorf("tried again: %q, %v", out, err)
				}
				w.requireClaims("used 2")
			})
		}
	}
}

// A process that dies, or cannot reach its database, between claim and result leaves a lease:
// the token is in use until it runs out.
func TestClaimThatNeverEndsIsOverWithItsLease(t *testing.T) {
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			mend := w.failEntries(audit.KindResult)
			out, err := a.do(w, "jti-1")
			requireRetry(t, err)
			if out != "" {
				t.Errorf("released %q without a record", out)
			}
			mend()
			w.requireLog("intent " + a.name)
			w.requireClaims("claimed 1")
			calls := w.token.Calls()
			w.clock.Add(lease - time.Millisecond)
			if out, err := a.do(w, "jti-1"); out != "" || !errors.Is(err, access.ErrReplayed) {
				t.Errorf("while the lease runs: %q, %v", out, err)
			}
			w.requireCalls(0, calls)
			w.clock.Add(time.Millisecond)
			if out, err := a.do(w, "jti-1"); err != nil || out == "" {
				t.Errorf("after it: %q, %v", out, err)
			}
			w.requireClaims("used 2")
		})
	}
}

// A is slow: its lease runs out at the gate, and B takes the bearer token over and finishes.
// One token leaves, B's; and how A ended is on record too.
func TestRequestThatOutlivesItsLeaseReleasesNothing(t *testing.T) {
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			var second string
			w.hands.after = func() error {
				w.hands.after = nil
				w.clock.Add(lease)
				var err error
				second, err = a.do(w, "jti-1")
				return err
			}
			out, err := a.do(w, "jti-1")
			if out != "" || second == "" || !errors.Is(err, access.ErrReplayed) {
				t.Errorf("A: %q, %v; B: %q", out, err, second)
			}
			w.requireLog("intent "+a.name, "intent "+a.name, "result done", "result refused claim-lost")
			w.requireClaims("used 2")
		})
	}
}

// Without the claim on record the token is not asked.
func TestIntentThatCannotBeRecordedStopsEverything(t *testing.T) {
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			mend := w.failEntries(audit.KindIntent)
			out, err := a.do(w, "jti-1")
			requireRetry(t, err)
			if out != "" {
				t.Errorf("released %q", out)
			}
			w.requireCalls(0, 0)
			w.requireLog()
			w.requireClaims()
			mend()
			if out, err := a.do(w, "jti-1"); err != nil || out == "" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// A request may use up more than its token; all is taken or nothing.
func TestClaimsAreTakenTogether(t *testing.T) {
	w := newWorld(t)
	if _, err := attempts[0].do(w, "jti-1"); err != nil {
		t.Fatal(err)
	}
	who := backend
	who.Claims = []record.Claim{w.use("jti-2"), w.use("jti-1")}
	if _, err := w.sign(who, request()); !errors.Is(err, access.ErrReplayed) {
		t.Error(err)
	}
	w.requireClaims("used 1")
	who.Claims = []record.Claim{w.use("jti-2"), w.use("jti-3")}
	if _, err := w.sign(who, request()); err != nil {
		t.Error(err)
	}
	w.requireClaims("used 1", "used 1", "used 1")
}

// What needs no claim leaves no intent behind: it is recorded once, with its result.
func TestTokenThatFailsIsRecordedOnce(t *testing.T) {
	w := newWorld(t)
	w.hands.before = func() error { return w.token.Close(context.Background()) }
	out, err := w.sign(backend, request())
	requireRetry(t, err)
	if out != (merchant.Token{}) || !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("%+v, %v", out, err)
	}
	w.requireLog("operation sign-token failed failed")
	// While it is known to be away nothing is begun.
	w.hands.before = nil
	out, err = w.sign(backend, request())
	requireRetry(t, err)
	if proximity, err := w.svc.ProximityToken(context.Background(), app, claims()); out != (merchant.Token{}) || proximity != (merchant.ProximityToken{}) || err == nil {
		t.Errorf("%+v, %+v, %v", out, proximity, err)
	}
	w.requireLog("operation sign-token failed failed")
	w.token.Reopen(t, func(*hsm.Keyring) {})
	w.hands.Gate = signer.New(w.token.Token)
	w.mustSign(request())
}

// A caller who hangs up does not undo what the token did: it is on record.
func TestCallerWhoHangsUpIsRecordedAllTheSame(t *testing.T) {
	for name, tc := range map[string]struct {
		at   func(*hands) *func() error
		line string
	}{
		"after the signature":  {func(h *hands) *func() error { return &h.after }, "operation sign-token done"},
		"before the signature": {func(h *hands) *func() error { return &h.before }, "operation sign-token failed failed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, hangUp := context.WithCancel(context.Background())
			*tc.at(w.hands) = func() error { hangUp(); return nil }
			_, err := w.svc.SignToken(ctx, backend, request())
			if (err == nil) != (name == "after the signature") {
				t.Error(err)
			}
			w.requireLog(tc.line)
		})
	}
}
