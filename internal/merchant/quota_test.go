package merchant_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// daily bounds the backend's day.
func daily(n int) func(*merchant.Settings) {
	return func(s *merchant.Settings) {
		a := s.Allowances[backend.Issuer]
		a.Daily = n
		s.Allowances[backend.Issuer] = a
	}
}

// outcomes counts how operations ended, refusals that were summed up included.
func (w *world) outcomes() map[string]int {
	w.Helper()
	if err := w.log.SummariseAll(context.Background()); err != nil {
		w.Fatal(err)
	}
	all := map[string]int{}
	for _, e := range w.entries() {
		b := w.body(e)
		switch e.Kind {
		case "refusal":
			all["refused "+b.Reason] += max(1, b.Times)
		case "operation":
			all[string(b.Result.Outcome)+" "+b.Result.Reason]++
		}
	}
	return all
}

// Of any number of requests at once the day's number is signed, and the log says so.
func TestOfManyRequestsAtOnceTheQuotaIsReleased(t *testing.T) {
	const callers, quota = 50, 10
	w := newWorld(t, daily(quota))
	var released, refused atomic.Int32
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			out, err := w.sign(backend, request())
			var over *merchant.QuotaError
			switch {
			case err == nil && out.Token != "":
				released.Add(1)
			case errors.Is(err, merchant.ErrQuota) && errors.As(err, &over) && over.Wait == 12*time.Hour && out == (merchant.Token{}):
				refused.Add(1)
			default:
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	all.Wait()
	if released.Load() != quota || refused.Load() != callers-quota {
		t.Errorf("%d released, %d refused", released.Load(), refused.Load())
	}
	got := w.outcomes()
	if got["done "] != quota || got["refused quota"] != callers-quota || len(got) != 2 {
		t.Errorf("recorded: %v", got)
	}
	// From then on the token is not asked any more.
	calls := w.token.Calls()
	if _, err := w.sign(backend, request()); !errors.Is(err, merchant.ErrQuota) {
		t.Error(err)
	}
	w.requireCalls(0, calls)
}

// A day is one of UTC. With the next the count begins anew, also in a service that has been
// started since.
func TestNextDayStartsAnew(t *testing.T) {
	w := newWorld(t, daily(2))
	sign := func(svc *merchant.Service, ok bool, wait time.Duration) {
		t.Helper()
		out, err := svc.SignToken(context.Background(), backend, request())
		var over *merchant.QuotaError
		if ok && (err != nil || out.Token == "") {
			t.Errorf("at %v: %v", w.clock.Now(), err)
		}
		if !ok && (!errors.As(err, &over) || over.Wait != wait) {
			t.Errorf("at %v: %v", w.clock.Now(), err)
		}
	}
	restarted := func() *merchant.Service {
		s := settings()
		daily(2)(&s)
		svc, err := merchant.New(merchant.Config{Recorder: w.log, Gate: w.hands, Now: w.clock.Now}, s)
		if err != nil {
			t.Fatal(err)
		}
		return svc
	}
	sign(w.svc, true, 0)
	sign(w.svc, true, 0)
	sign(w.svc, false, 12*time.Hour)
	sign(restarted(), false, 12*time.Hour)
	w.clock.Add(12*time.Hour - time.Second)
	sign(w.svc, false, time.Second)
	w.clock.Add(time.Second)
	sign(w.svc, true, 0)
	sign(restarted(), true, 0)
	sign(w.svc, false, 24*time.Hour)
}

// Clients do not use up each other's day, and one without a quota has none.
func TestQuotaIsTheClientsOwn(t *testing.T) {
	other, free := backend, backend
	other.Issuer, free.Issuer = "https://other.example", "https://free.example"
	w := newWorld(t, daily(1), func(s *merchant.Settings) {
		s.Allowances[other.Issuer] = s.Allowances[backend.Issuer]
		s.Allowances[free.Issuer] = everything()
	})
	for _, tc := range []struct {
		who merchant.Caller
		ok  bool
	}{{backend, true}, {backend, false}, {other, true}, {other, false}, {free, true}, {free, true}, {free, true}, {backend, false}} {
		if _, err := w.sign(tc.who, request()); (err == nil) != tc.ok || err != nil && !errors.Is(err, merchant.ErrQuota) {
			t.Errorf("%s: %v", tc.who.Issuer, err)
		}
	}
	// Subjects of one client share its day.
	second := backend
	second.Subject = "server-2"
	if _, err := w.sign(second, request()); !errors.Is(err, merchant.ErrQuota) {
		t.Errorf("another subject: %v", err)
	}
}

// What was not signed does not count: a refusal, and a token that failed.
func TestOnlyReleasedTokensAreCounted(t *testing.T) {
	w := newWorld(t, daily(1))
	req := request()
	req.Subject = ""
	_, _ = w.sign(backend, req)
	w.hands.before = func() error { return errAway }
	if _, err := w.sign(backend, request()); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	w.hands.before = nil
	mend := w.failEntries("operation")
	if _, err := w.sign(backend, request()); err == nil {
		t.Fatal("released without a record")
	}
	mend()
	w.mustSign(request())
	if _, err := w.sign(backend, request()); !errors.Is(err, merchant.ErrQuota) {
		t.Error(err)
	}
}

// A larger quota is there at once, a smaller one too.
func TestQuotaChangesWithTheSettings(t *testing.T) {
	w := newWorld(t, daily(1))
	w.mustSign(request())
	w.requireOver()
	w.useDaily(3)
	w.mustSign(request())
	w.useDaily(2)
	w.requireOver()
	w.useDaily(3)
	w.mustSign(request())
	w.requireOver()
	w.useDaily(0)
	for range 5 {
		w.mustSign(request())
	}
}

// What a request learns that began under the old quota does not stand in the way of the new.
func TestQuotaChangesUnderARequest(t *testing.T) {
	w := newWorld(t, daily(1))
	w.mustSign(request())
	w.hands.after = func() error {
		w.hands.after = nil
		w.useDaily(2)
		return nil
	}
	w.requireOver()
	w.mustSign(request())
	w.requireOver()
}

func (w *world) useDaily(n int) {
	w.Helper()
	s := settings()
	daily(n)(&s)
	if err := w.svc.Use(s); err != nil {
		w.Fatal(err)
	}
}

func (w *world) requireOver() {
	w.Helper()
	if _, err := w.sign(backend, request()); !errors.Is(err, merchant.ErrQuota) {
		w.Errorf("error %v, want ErrQuota", err)
	}
}

// A single-use token is not used up by a request that comes when the day is over.
func TestQuotaThatIsUsedUpFreesTheToken(t *testing.T) {
	w := newWorld(t, daily(1))
	w.mustSign(request())
	fresh, err := merchant.New(merchant.Config{Recorder: w.log, Gate: w.hands, Now: w.clock.Now}, func() merchant.Settings { s := settings(); daily(1)(&s); return s }())
	if err != nil {
		t.Fatal(err)
	}
	who := backend
	who.Claims = []record.Claim{w.use("jti-1")}
	if _, err := fresh.SignToken(context.Background(), who, request()); !errors.Is(err, merchant.ErrQuota) {
		t.Fatal(err)
	}
	w.requireClaims("free 1")
	w.requireLog("operation sign-token done", "intent sign-token", "result refused quota")
}
