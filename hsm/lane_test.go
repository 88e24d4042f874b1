package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// hold begins an agreement that stays inside the token's lane until release is called;
// release waits for its end and gives its error.
func hold(t *testing.T, tok *Token) (release func() error) {
	t.Helper()
	inside, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := appleSealing(t, receiver(t).PublicKey())
	s.OtherInfo = func(point []byte) []byte {
		close(inside)
		<-free
		return appleInfo(point)
	}
	go func() { done <- second(tok.AgreeAndSeal(context.Background(), s)) }()
	<-inside
	return func() error {
		close(free)
		return <-done
	}
}

func TestFullLaneAnswersBusyAndLaterServes(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	seen := &calls{}
	tok := open(t, on, ringOf(tav), func(c *Config) { c.ECConcurrency = 1; c.Observer = seen })
	release := hold(t, tok)

	ctx, cancel := context.WithCancel(context.Background())
	waiting := make(chan error)
	go func() { waiting <- tok.Ping(ctx) }()
	cancel() // whether it waits already or not
	for _, err := range []error{<-waiting, tok.Ping(expired())} {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("error is %v, want ErrBusy", err)
		}
		if d, ok := retryAfter(err); !ok || d <= 0 {
			t.Errorf("RetryAfter is %v, %v", d, ok)
		}
	}
	requireSigns(t, tok, tav.Name) // the other lane is free

	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := tok.Ping(expired()); !errors.Is(err, ErrBusy) {
		t.Errorf("a caller whose time is up gets a place that is free: %v", err)
	}
	if err := tok.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := []string{"ping ec busy", "ping ec busy", "sign rsa ok", "agree-and-seal ec ok", "ping ec busy", "ping ec ok"}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("observed %q\nwant     %q", got, want)
	}
}

// occupy fills lanes with work that stays until release is called.
func occupy(t *testing.T, tok *Token, lanes ...*lane) (release func()) {
	t.Helper()
	free := make(chan struct{})
	var working, inside sync.WaitGroup
	for _, l := range lanes {
		for range l.size {
			inside.Add(1)
			working.Go(func() {
				_, err := run(context.Background(), tok, l, "occupy", func(*epoch) (struct{}, error) {
					inside.Done()
					<-free
					return struct{}{}, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	inside.Wait()
	return func() { close(free); working.Wait() }
}

// signers puts one key for each lane of signatures on the token.
func signers(t *testing.T, on *softhsm.Token) (tav, proximity, api Key) {
	t.Helper()
	tav, _, _ = stock(t, on)
	return tav, stockEC(t, on, "proximity", ProximityToken), stockEC(t, on, "tls", APITLS)
}

// Who signs for a handshake waits for other handshakes only, and nobody else for them.
func TestLanesDoNotHoldEachOtherUp(t *testing.T) {
	on := softhsm.New(t)
	tav, proximity, api := signers(t, on)
	seen := &calls{}
	tok := open(t, on, ringOf(tav, proximity, api), func(c *Config) { c.RSAConcurrency, c.ECConcurrency, c.Observer = 2, 1, seen })
	lanes := map[string]*lane{tav.Name: tok.rsa, proximity.Name: tok.ec, api.Name: tok.tls}
	for free, own := range lanes {
		t.Run(free, func(t *testing.T) {
			var others []*lane
			for _, l := range lanes {
				if l != own {
					others = append(others, l)
				}
			}
			release := occupy(t, tok, others...)
			defer release()
			for name, l := range lanes {
				if l == own {
					requireSigns(t, tok, name)
					continue
				}
				if _, err := tok.Sign(expired(), name, sha("message"), crypto.SHA256); !errors.Is(err, ErrBusy) {
					t.Errorf("%s, whose lane is full: error is %v, want ErrBusy", name, err)
				}
			}
		})
	}
	for name, l := range lanes {
		if n := countOf(seen.all(), "sign "+string(l.name)+" ok"); n != 1 {
			t.Errorf("%s signed %d times in the lane %s, want once", name, n, l.name)
		}
	}
}

func countOf(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// Whoever was admitted has a session of crypto11's: with all lanes full all are inside the
// token at the same time.
func TestEachPlaceInALaneHasItsSession(t *testing.T) {
	on := softhsm.New(t)
	tav, proximity, api := signers(t, on)
	calls := shim(t, on)
	tok := open(t, on, ringOf(tav, proximity, api), func(c *Config) { c.RSAConcurrency, c.ECConcurrency = 3, 2 })
	want := 3 + 2 + tlsConcurrency
	for _, k := range []Key{tav, proximity, api} {
		requireSigns(t, tok, k.Name)
	}
	before := calls("C_Sign")
	end := misbehave(t, on, "hold")
	done := make(chan error, want)
	for name, l := range map[string]*lane{tav.Name: tok.rsa, proximity.Name: tok.ec, api.Name: tok.tls} {
		for range l.size {
			go func() { done <- second(tok.Sign(context.Background(), name, sha("message"), crypto.SHA256)) }()
		}
	}
	came := 0
	for calls("C_Sign")-before < want && came == 0 {
		select {
		case err := <-done:
			came++
			t.Errorf("with %d of %d calls inside one came back with %v", calls("C_Sign")-before, want, err)
		default:
			runtime.Gosched()
		}
	}
	end()
	for ; came < want; came++ {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The token is asked for as many sessions as the operator was told, no more: with all
// places taken, errors looked into, and one epoch taking the place of another.
func TestSessionsAreNoMoreThanSaid(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, _ := stock(t, on)
	shim(t, on)
	tok := open(t, on, ringOf(tav, vault), func(c *Config) { c.RSAConcurrency, c.ECConcurrency = 3, 2 })
	var inside, working sync.WaitGroup
	free := make(chan struct{})
	inside.Add(tok.ec.size)
	for range tok.ec.size {
		working.Go(func() {
			err := inSession(tok, "look into an error", func(u *unit) error {
				return u.e.withSession(func(*unit) error { inside.Done(); <-free; return nil })
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	inside.Wait()
	close(free)
	working.Wait()
	if err := tok.renew(context.Background(), tok.current.Load(), true); err != nil {
		t.Fatal(err)
	}
	if _, most := sessionsOf(t, on); most > tok.Sessions() || most < 2*(1+tok.pool()) {
		t.Errorf("%d sessions were open at once, and %d are said to be needed", most, tok.Sessions())
	}
}

// Nothing is finalized under a call, whichever lane it came in by; and a drain that gives
// up leaves every lane as it was.
func TestDrainWaitsForEveryLane(t *testing.T) {
	on := softhsm.New(t)
	tav, proximity, api := signers(t, on)
	tok := open(t, on, ringOf(tav, proximity, api))
	lanes := []*lane{tok.rsa, tok.ec, tok.tls}
	for i, l := range lanes {
		t.Run(string(l.name), func(t *testing.T) {
			release := occupy(t, tok, l)
			ctx, cancel := context.WithCancel(context.Background())
			drained := make(chan error)
			go func() {
				all, err := tok.drain(ctx)
				if err == nil {
					all()
				}
				drained <- err
			}()
			for _, before := range lanes[:i] { // which it fills on the way
				for before.slots.TryAcquire(1) {
					before.slots.Release(1)
					runtime.Gosched()
				}
			}
			cancel()
			err := <-drained
			release()
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("drained under a call: %v", err)
			}
			release = occupy(t, tok, lanes...) // all places are there again
			release()
			all, err := tok.drain(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if l.slots.TryAcquire(1) {
				t.Error("a drained token takes a call")
			}
			all()
		})
	}
}

// calls is an Observer that keeps what it is told.
type calls struct {
	mu   sync.Mutex
	list []string
}

// MemberState counts nothing.
func (c *calls) MemberState(_, _ string) {}

func (c *calls) TokenCall(op, lane string, queued, inToken time.Duration, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if queued < 0 || inToken < 0 || outcome == "busy" && inToken != 0 {
		outcome += fmt.Sprintf(" after %v and %v", queued, inToken)
	}
	c.list = append(c.list, op+" "+lane+" "+outcome)
}

func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func TestCloseWaitsForCallsInFlight(t *testing.T) {
	on := softhsm.New(t)
	tok := open(t, on, ringOf())
	release := hold(t, tok)
	closed := make(chan error, 1)
	go func() { closed <- tok.Close(context.Background()) }()
	for !tok.closed.Load() { // Close has begun
		runtime.Gosched()
	}
	if err := tok.Ping(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v, want ErrClosed", err)
	}
	select {
	case err := <-closed:
		t.Errorf("Close returned %v while a call was in flight", err)
	default:
	}
	if err := release(); err != nil {
		t.Errorf("the call in flight failed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	open(t, on, ringOf()) // finalized: C_Initialize serves again
}

// A Close that cannot wait long enough leaves the module alone, since C_Finalize under
// a running call takes the process down. It can be repeated.
func TestCloseThatCannotWaitFinalizesNothing(t *testing.T) {
	on := softhsm.New(t)
	tok := open(t, on, ringOf(), func(c *Config) { c.ECConcurrency = 2 })
	release := hold(t, tok)
	for range 2 {
		if err := tok.Close(expired()); !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v, want the context's", err)
		}
		if _, err := tok.mod.ctx.GetInfo(); err != nil {
			t.Fatalf("the module was finalized: %v", err)
		}
	}
	if err := tok.Ping(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v, want ErrClosed", err)
	}
	if err := release(); err != nil {
		t.Errorf("the call in flight failed: %v", err)
	}
	shut(t, tok)
	requireCode(t, second(tok.mod.ctx.GetInfo()), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	shut(t, tok) // and once more, which does nothing
	open(t, on, ringOf())
}

// Nobody hangs on a closed token, however long a caller would wait.
func TestClosedTokenAnswersAtOnce(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf(), func(c *Config) { c.ECConcurrency = 1 })
	release := hold(t, tok)
	answers := make(chan error)
	const waiting = 8
	for range waiting {
		go func() { answers <- tok.Ping(context.Background()) }()
	}
	closed := make(chan error, 1)
	go func() { closed <- tok.Close(context.Background()) }()
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for range waiting {
		if err := <-answers; err != nil && !errors.Is(err, ErrClosed) { // served, or told
			t.Errorf("error is %v, want ErrClosed", err)
		}
	}
	ctx := context.Background()
	for op, err := range map[string]error{
		"Sign":         second(tok.Sign(ctx, "k", sha(""), crypto.SHA256)),
		"AgreeAndSeal": second(tok.AgreeAndSeal(ctx, appleSealing(t, receiver(t).PublicKey()))),
		"HMAC":         second(tok.HMAC(ctx, "k", nil)),
		"Ping":         tok.Ping(ctx),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: error is %v, want ErrClosed", op, err)
		}
		if _, ok := retryAfter(err); !ok {
			t.Errorf("%s: %v is not a matter of availability", op, err)
		}
	}
}

// What a device code means reaches the caller as one question: may a retry help?
func TestErrorsReachTheCallerByTheirClass(t *testing.T) {
	for _, tc := range []struct {
		name    string
		err     error
		retry   bool
		outcome string
	}{
		{"request", &Error{"C_X", pkcs11.CKR_MECHANISM_INVALID}, false, "request"},
		{"session", &Error{"C_X", pkcs11.CKR_SESSION_HANDLE_INVALID}, true, "session"},
		{"login", &Error{"C_X", pkcs11.CKR_USER_NOT_LOGGED_IN}, true, "login"},
		{"device", &Error{"C_X", pkcs11.CKR_DEVICE_ERROR}, true, "device"},
		{"suspect", &Error{"C_X", pkcs11.CKR_GENERAL_ERROR}, true, "suspect"},
		{"exhausted", &Error{"C_X", pkcs11.CKR_SESSION_COUNT}, true, "exhausted"},
		{"wrapped", fmt.Errorf("sign: %w", &Error{"C_X", pkcs11.CKR_DEVICE_REMOVED}), true, "device"},
		{"key", &KeyError{"k", KeyLost}, true, "request"},
		{"our own refusal", errors.New("IV has 3 bytes"), false, "request"},
		{"none", nil, false, "ok"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := &calls{}
			tok := open(t, softhsm.New(t), ringOf(), func(c *Config) { c.Observer = seen })
			err := inSession(tok, "op", func(*unit) error { return tc.err })
			if !errors.Is(err, tc.err) {
				t.Errorf("error is %v, want %v", err, tc.err)
			}
			if _, ok := retryAfter(err); ok != tc.retry {
				t.Errorf("RetryAfter is there: %v, want %v", ok, tc.retry)
			}
			if got := seen.all(); !slices.Equal(got, []string{"op ec " + tc.outcome}) {
				t.Errorf("observed %q", got)
			}
		})
	}
}
