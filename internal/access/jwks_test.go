package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mintmark/mintmark/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// These tests run in bubbles of testing/synctest: their time is not the world's, a
// Sleep takes none, and a goroutine that is left behind fails the test.

// origin is a JWKS endpoint.
type origin struct {
	mu     sync.Mutex
	answer access.Fetched
	err    error
	hold   chan struct{} // an answer waits until it is closed; nil: none waits
	deaf   bool          // it does so whatever its context says
	asked  []string      // the etag of each request
}

func (o *origin) Get(ctx context.Context, url, etag string) (access.Fetched, error) {
	o.mu.Lock()
	o.asked = append(o.asked, etag)
	hold, done := o.hold, ctx.Done()
	if o.deaf {
		done = nil
	}
	o.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-done:
			return access.Fetched{}, ctx.Err()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if url != jwksURL {
		return access.Fetched{}, errors.New("another address was asked")
	}
	if o.err == nil && etag != "" && etag == o.answer.ETag {
		return access.Fetched{NotModified: true, ETag: etag, MaxAge: o.answer.MaxAge}, nil
	}
	return o.answer, o.err
}

func (o *origin) set(change func(*origin)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *origin) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

const jwksURL = "https://issuer.example/jwks.json"

// entry is a key in a JWK Set, with members changed: each change is a member's name
// and its JSON, where empty takes it out.
func entry(changes ...string) string {
	k := vector().key
	return member(map[string]string{
		"kty": `"RSA"`, "kid": `"2026-07"`, "n": `"` + b64(k.N.Bytes()) + `"`, "e": `"AQAB"`,
	}, changes)
}

func curveEntry(changes ...string) string {
	p := readPublished("testdata/rfc7515-a3.json").jwk
	return member(map[string]string{
		"kty": `"EC"`, "kid": `"curve"`, "crv": `"P-256"`, "x": `"` + p["x"] + `"`, "y": `"` + p["y"] + `"`,
	}, changes)
}

func member(members map[string]string, changes []string) string {
	for i := 0; i < len(changes); i += 2 {
		members[changes[i]] = changes[i+1]
	}
	var all []string
	for name, value := range members {
		if value != "" {
			all = append(all, fmt.Sprintf("%q:%s", name, value))
		}
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ",") + "}"
}

func set(entries ...string) []byte { return []byte(`{"keys":[` + strings.Join(entries, ",") + `]}`) }

// opened is a key set at an origin, in a bubble; it is closed at the end.
func opened(t *testing.T, o *origin) *access.JWKS {
	t.Helper()
	s := access.NewJWKS(jwksURL, o, time.Now)
	t.Cleanup(s.Close)
	return s
}

func has(t *testing.T, s *access.JWKS, kid string) {
	t.Helper()
	if k, err := s.Key(t.Context(), kid); err != nil || kid != "" && k.ID != kid {
		t.Fatalf("key %q: got %q, %v", kid, k.ID, err)
	}
}

func lacks(t *testing.T, s *access.JWKS, kid string) {
	t.Helper()
	if _, err := s.Key(t.Context(), kid); !errors.Is(err, access.ErrUnknownKey) {
		t.Fatalf("key %q: %v, want it unknown", kid, err)
	}
}

// unavailable wants the keys not to be had, and gives how long to wait.
func unavailable(t *testing.T, s *access.JWKS) time.Duration {
	t.Helper()
	_, err := s.Key(t.Context(), kid)
	var later interface{ RetryAfter() time.Duration }
	if !errors.As(err, &later) || errors.Is(err, access.ErrUnknownKey) || access.ReasonOf(err) != "" {
		t.Fatalf("error is %v, want one with RetryAfter", err)
	}
	return later.RetryAfter()
}

func fetched(t *testing.T, o *origin, want int) {
	t.Helper()
	synctest.Wait()
	if got := o.requests(); got != want {
		t.Fatalf("%d requests, want %d", got, want)
	}
}

func TestKeySetIsFetchedWhenItIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry(), curveEntry()), MaxAge: time.Hour}}
		s := opened(t, o)
		fetched(t, o, 0)
		for range 3 {
			has(t, s, kid)
			has(t, s, "curve")
		}
		lacks(t, s, "") // it is one of two
		fetched(t, o, 1)
		if st := s.Status(); st.Keys != 2 || st.PassedOver != 0 || st.Err != nil || !st.Confirmed.Equal(time.Now()) {
			t.Errorf("status %+v", st)
		}
	})
}

// It is fetched again after its max-age, but not before a minute and not after an hour.
func TestKeySetIsRefreshed(t *testing.T) {
	for maxAge, due := range map[time.Duration]time.Duration{
		0: time.Minute, time.Second: time.Minute, 5 * time.Minute: 5 * time.Minute, time.Hour: time.Hour, 30 * 24 * time.Hour: time.Hour, -time.Hour: time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: maxAge}}
			s := opened(t, o)
			has(t, s, kid)
			time.Sleep(due - time.Nanosecond)
			has(t, s, kid)
			fetched(t, o, 1)
			time.Sleep(time.Nanosecond)
			has(t, s, kid)
			fetched(t, o, 2)
			time.Sleep(due)
			has(t, s, kid)
			fetched(t, o, 3)
		})
	}
}

// Who calls while a due set is fetched does not wait for it: these calls come back
// although the answer is held until they have.
func TestOldKeysServeWhileNewOnesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry("kid", `"old"`))}}
		s := opened(t, o)
		has(t, s, "old")
		hold := make(chan struct{})
		o.set(func(o *origin) { o.hold, o.answer.Body = hold, set(entry("kid", `"new"`)) })
		time.Sleep(time.Minute)
		begun := time.Now()
		for range 5 {
			has(t, s, "old")
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		fetched(t, o, 2)
		close(hold)
		synctest.Wait()
		has(t, s, "new")
		fetched(t, o, 2)
		lacks(t, s, "old")
	})
}

func TestUnchangedKeySetIsConfirmedByItsETag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), ETag: `"1"`, MaxAge: 5 * time.Minute}}
		s := opened(t, o)
		for range 4 {
			has(t, s, kid)
			time.Sleep(5 * time.Minute)
		}
		o.set(func(o *origin) { o.answer = access.Fetched{Body: set(curveEntry()), ETag: `"2"`} })
		has(t, s, kid)
		synctest.Wait()
		has(t, s, "curve")
		time.Sleep(time.Minute)
		has(t, s, "curve")
		synctest.Wait()
		if want := []string{"", `"1"`, `"1"`, `"1"`, `"1"`, `"2"`}; !slices.Equal(o.asked, want) {
			t.Errorf("asked with %q, want %q", o.asked, want)
		}
		if age := time.Since(s.Status().Confirmed); age != 0 {
			t.Errorf("confirmed %v ago", age)
		}
	})
}

// A new key works as soon as the owner publishes it, at the price of one request each
// half minute, however many made-up kids there are.
func TestUnknownKidIsAskedForOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: time.Hour}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.answer.Body = set(entry(), entry("kid", `"next"`)) })
		for i := range 300 { // half a minute
			lacks(t, s, fmt.Sprint("made-up-", i))
			time.Sleep(100*time.Millisecond - 1)
		}
		fetched(t, o, 1)
		time.Sleep(time.Second)
		has(t, s, "next")
		fetched(t, o, 2)
		for i := range 100 {
			lacks(t, s, fmt.Sprint("made-up-", i))
		}
		fetched(t, o, 2)
	})
}

func TestManyAskForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold}
		s := opened(t, o)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if _, err := s.Key(t.Context(), []string{kid, "made-up"}[i%2]); errors.Is(err, access.ErrUnknownKey) != (i%2 == 1) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		fetched(t, o, 1)
	})
}

// A key set that cannot be had keeps its keys for a day, and is asked for gently.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: time.Hour}}
		s := opened(t, o)
		has(t, s, kid)
		begun := time.Now()
		o.set(func(o *origin) { o.err = errors.New("connection refused") })
		for time.Since(begun) < 24*time.Hour {
			has(t, s, kid)
			time.Sleep(10 * time.Second)
		}
		// An hour without, then one request every 30 s.
		if n := o.requests(); n < 2000 || n > 1+23*120+1 {
			t.Errorf("%d requests in 24 h", n)
		}
		if st := s.Status(); st.Err == nil || !strings.Contains(st.Err.Error(), "connection refused") || st.Keys != 1 {
			t.Errorf("status %+v", st)
		}
		if after := unavailable(t, s); after <= 0 || after > 30*time.Second {
			t.Errorf("retry after %v", after)
		}
		before := o.requests()
		for range 10 {
			unavailable(t, s)
		}
		if o.requests() > before {
			t.Error("each call is a request")
		}
		o.set(func(o *origin) { o.err = nil })
		time.Sleep(unavailable(t, s))
		has(t, s, kid)
		if st := s.Status(); st.Err != nil {
			t.Errorf("status %+v", st)
		}
	})
}

func TestKeySetThatNeverWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{err: errors.New("no such host")}
		s := opened(t, o)
		if after := unavailable(t, s); after != 30*time.Second {
			t.Errorf("retry after %v", after)
		}
		time.Sleep(29 * time.Second)
		if after := unavailable(t, s); after != time.Second {
			t.Errorf("retry after %v", after)
		}
		fetched(t, o, 1)
		o.set(func(o *origin) { o.err, o.answer.Body = nil, set(entry()) })
		time.Sleep(time.Second)
		has(t, s, kid)
	})
}

// After a pause a withdrawn key is not taken once more while the set is fetched; but
// when the set cannot be had, the pause makes nobody wait twice.
func TestLongPauseIsFollowedByAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry(), curveEntry())}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.answer.Body = set(curveEntry()) })
		time.Sleep(2 * time.Hour)
		lacks(t, s, kid)
		fetched(t, o, 2)

		o.set(func(o *origin) { o.err = errors.New("timeout") })
		time.Sleep(2 * time.Hour)
		has(t, s, "curve")
		fetched(t, o, 3)
		hold := make(chan struct{})
		o.set(func(o *origin) { o.hold = hold })
		time.Sleep(time.Hour)
		begun := time.Now()
		has(t, s, "curve") // the answer is held
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		fetched(t, o, 4)
		close(hold)
	})
}

func TestCallerThatGoesAwayDoesNotEndTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold}
		s := opened(t, o)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Key(ctx, kid)
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error is %v", err)
		}
		close(hold)
		has(t, s, kid)
		fetched(t, o, 1)
	})
}

func TestFetchEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{hold: make(chan struct{})} // never answers
		s := opened(t, o)
		begun := time.Now()
		unavailable(t, s)
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// One that does not end is not joined by a second.
func TestOneFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold, deaf: true}
		s := opened(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = s.Key(ctx, kid) })
			time.Sleep(time.Minute)
		}
		fetched(t, o, 1)
		cancel()
		wg.Wait()
		close(hold)
		has(t, s, kid)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry())}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.hold = make(chan struct{}) })
		time.Sleep(time.Minute)
		has(t, s, kid)
		fetched(t, o, 2)
		begun := time.Now()
		s.Close() // ends the one under way, which nobody answers
		s.Close()
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Hour)
		has(t, s, kid)
		lacks(t, s, "other")
		fetched(t, o, 2)
		time.Sleep(24 * time.Hour)
		unavailable(t, s)

		never := opened(t, &origin{})
		never.Close()
		unavailable(t, never)
	})
}

// What is refused leaves what there was.
func TestRefusedSetsDoNotReplaceGoodOnes(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = entry("kid", fmt.Sprintf(`"k%d"`, i))
	}
	private := func(member string) []byte { return set(curveEntry(), entry(member, `"AQAB"`)) }
	for name, tc := range map[string]struct {
		body []byte
		says string
	}{
		"nothing":                        {nil, "no JWK Set"},
		"a web page":                     {[]byte("<html>"), "no JWK Set"},
		"an array":                       {[]byte("[" + entry() + "]"), "no JWK Set"},
		"a key":                          {[]byte(entry()), "no keys member"},
		"keys is null":                   {[]byte(`{"keys":null}`), "no keys member"},
		"keys is an object":              {[]byte(`{"keys":{}}`), "no JWK Set"},
		"keys under another case":        {[]byte(`{"Keys":[]}`), "no keys member"},
		"keys twice":                     {[]byte(`{"keys":[],"keys":[` + entry() + `]}`), "duplicate-member"},
		"more behind it":                 {append(set(entry()), '}'), "no JWK Set"},
		"cut short":                      {set(entry())[:200], "no JWK Set"},
		"nested too deep":                {[]byte(`{"keys":[],"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`), "no JWK Set"},
		"a member twice in a key":        {set(strings.Replace(entry(), "{", `{"n":"AQAB",`, 1)), "duplicate-member"},
		"a key that is null":             {set("null"), "no JSON object"},
		"a key that is a text":           {set(`"key"`), "no JSON object"},
		"65 keys":                        {set(many...), "more than 64 keys"},
		"65 keys that are passed over":   {set(strings.Split(strings.Repeat(`{"kty":"x"} `, 65), " ")[:65]...), "more than 64 keys"},
		"one kid twice":                  {set(entry(), curveEntry("kid", `"2026-07"`)), "one kid"},
		"two without kid":                {set(entry("kid", ""), curveEntry("kid", "")), "or without"},
		"one of two without kid":         {set(entry("kid", ""), curveEntry()), "without kid"},
		"private exponent":               {private("d"), "private or symmetric"},
		"prime":                          {private("p"), "private or symmetric"},
		"other primes":                   {set(entry("oth", "[]")), "private or symmetric"},
		"private key of a curve":         {set(curveEntry("d", `"AQAB"`)), "private or symmetric"},
		"private key that is null":       {set(entry("d", "null")), "private or symmetric"},
		"symmetric key":                  {set(entry(), `{"kty":"oct","k":"AAAA"}`), "private or symmetric"},
		"private key of an unknown kind": {set(entry(), `{"kty":"AKP","pub":"AA","priv":"AA"}`), "private or symmetric"},
		"private key for encryption":     {set(entry("use", `"enc"`, "d", `"AQAB"`)), "private or symmetric"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{answer: access.Fetched{Body: set(entry("kid", `"good"`)), ETag: `"1"`}}
				s := opened(t, o)
				has(t, s, "good")
				o.set(func(o *origin) { o.answer = access.Fetched{Body: tc.body, ETag: `"2"`} })
				time.Sleep(time.Minute)
				has(t, s, "good")
				synctest.Wait()
				has(t, s, "good")
				st := s.Status()
				if st.Err == nil || !strings.Contains(st.Err.Error(), tc.says) || st.Keys != 1 {
					t.Fatalf("status %+v, want %q", st, tc.says)
				}
				if strings.Contains(st.Err.Error(), "2026-07") || strings.Contains(st.Err.Error(), "AQAB") {
					t.Errorf("the error holds what was sent: %v", st.Err)
				}
				time.Sleep(time.Minute)
				has(t, s, "good")
				synctest.Wait()
				if last := o.asked[len(o.asked)-1]; last != `"1"` {
					t.Errorf("asked with the tag %s of what was refused", last)
				}
			})
		})
	}
	t.Run("not modified, without a condition", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{NotModified: true}})
			unavailable(t, s)
			if s.Status().Err == nil {
				t.Error("taken as good")
			}
		})
	})
}

// One key that is of no use does not keep the others out.
func TestKeysThatArePassedOver(t *testing.T) {
	n := vector().key.N.Bytes()
	long := strings.Repeat("a", 256)
	point := append(readPublished("testdata/rfc7515-a3.json").octets("x"), readPublished("testdata/rfc7515-a3.json").octets("y")...)
	for name, key := range map[string]string{
		"for encryption":            entry("use", `"enc"`),
		"use is no text":            entry("use", `["sig"]`),
		"use in capitals":           entry("use", `"SIG"`),
		"null use":                  entry("use", `null`),
		"operations without verify": entry("key_ops", `["encrypt","wrapKey"]`),
		"only for signing":          entry("key_ops", `["sign"]`),
		"no operations":             entry("key_ops", `[]`),
		"operations are a text":     entry("key_ops", `"verify"`),
		"PS256":                     entry("alg", `"PS256"`),
		"RS512":                     entry("alg", `"RS512"`),
		"RSA-OAEP":                  entry("alg", `"RSA-OAEP"`),
		"alg is no text":            entry("alg", `7`),
		"RSA key for ES256":         entry("alg", `"ES256"`),
		"curve key for RS256":       curveEntry("alg", `"RS256"`),
		"no kty":                    entry("kty", ""),
		"kty in small letters":      entry("kty", `"rsa"`),
		"a kind we do not know":     `{"kty":"OKP","crv":"Ed25519","x":"AAAA","kid":"2026-07"}`,
		"kid is a number":           entry("kid", "7"),
		"empty kid":                 entry("kid", `""`),
		"kid too long":              entry("kid", `"`+long+`"`),
		"kid that does not print":   entry("kid", `"a\u0000"`),
		"no n":                      entry("n", ""),
		"n is padded":               entry("n", `"`+b64(n)+`=="`),
		"n in another alphabet":     entry("n", `"+`+b64(n)[1:]+`"`),
		"n with a line end":         entry("n", `"`+b64(n)[:8]+`\n`+b64(n)[8:]+`"`),
		"n is a number":             entry("n", "65537"),
		"1024 bits":                 entry("n", `"`+b64(n[:128])+`"`),
		"huge n":                    entry("n", `"`+b64(slices.Concat(n, n, n, n, n))+`"`),
		"even n":                    entry("n", `"`+b64(append(slices.Clone(n[:255]), 0))+`"`),
		"no e":                      entry("e", ""),
		"e is 1":                    entry("e", `"AQ"`),
		"e is 3":                    entry("e", `"Aw"`),
		"e is even":                 entry("e", `"AQAA"`),
		"e of 8 bytes":              entry("e", `"__________8"`),
		"e is 2^64 more":            entry("e", `"AQAAAAAAAQAB"`),
		"e is 0":                    entry("e", `"AA"`),
		"P-384":                     curveEntry("crv", `"P-384"`),
		"secp256k1":                 curveEntry("crv", `"secp256k1"`),
		"no crv":                    curveEntry("crv", ""),
		"no y":                      curveEntry("y", ""),
		"x too short":               curveEntry("x", `"AQAB"`),
		"x with a zero in front":    curveEntry("x", `"`+b64(append([]byte{0}, readPublished("testdata/rfc7515-a3.json").octets("x")...))+`"`),
		"x and y cut elsewhere":     curveEntry("x", `"`+b64(point[:33])+`"`, "y", `"`+b64(point[33:])+`"`),
		"beside the curve":          curveEntry("y", `"`+b64(make([]byte, 32))+`"`),
		"at infinity":               curveEntry("x", `"`+b64(make([]byte, 32))+`"`, "y", `"`+b64(make([]byte, 32))+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := opened(t, &origin{answer: access.Fetched{Body: set(key, entry("kid", `"good"`))}})
				has(t, s, "good")
				has(t, s, "") // the only one
				lacks(t, s, kid)
				lacks(t, s, "curve")
				if st := s.Status(); st.Keys != 1 || st.PassedOver != 1 || st.Err != nil {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

func TestKeysThatAreTaken(t *testing.T) {
	n := vector().key.N.Bytes()
	for name, key := range map[string]string{
		"bare":                                 entry(),
		"with all that may be":                 entry("use", `"sig"`, "alg", `"RS256"`, "key_ops", `["verify"]`, "x5c", `["AAAA"]`, "x5t", `"AA"`, "x5u", `"https://evil.example/"`, "other", `{"a":[1]}`),
		"one operation of several":             entry("key_ops", `["sign","verify"]`),
		"a zero in front of n, as seen":        entry("n", `"`+b64(append([]byte{0}, n...))+`"`),
		"curve, bare":                          curveEntry("kid", `"2026-07"`),
		"curve, with all that may be":          curveEntry("kid", `"2026-07"`, "use", `"sig"`, "alg", `"ES256"`, "key_ops", `["verify"]`),
		"beside one with the kid, passed over": entry() + "," + entry("use", `"enc"`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := opened(t, &origin{answer: access.Fetched{Body: set(key)}})
				has(t, s, kid)
				has(t, s, "")
			})
		})
	}
	t.Run("no keys at all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{Body: set()}})
			lacks(t, s, kid)
			lacks(t, s, "")
		})
	})
	t.Run("the only one, without kid", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{Body: set(entry("kid", ""))}})
			has(t, s, "")
			lacks(t, s, kid)
		})
	})
}

// The whole way: a client whose keys are at an address.
func TestTokensAreVerifiedWithPublishedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry(), curveEntry())}}
		s := opened(t, o)
		c := bank()
		c.Keys, c.KeySet = nil, s
		c.Grants = []access.Grant{{Right: access.SignCards, KeyIDs: []string{"curve"}}}
		v := verifierOf(t, c)

		who, err := authenticate(v, signed(with()))
		if err != nil || who.KeyID != kid || who.May(access.SignCards) == nil {
			t.Fatalf("%+v, %v", who, err)
		}
		who, err = authenticate(v, seal(`{"alg":"ES256","kid":"curve"}`, with(), es256(curveVector().key, nil)))
		if err != nil || who.KeyID != "curve" || who.May(access.SignCards) != nil {
			t.Fatalf("%+v, %v", who, err)
		}
		mustRefuse(t, v, headed(`{"alg":"RS256"}`), access.ReasonUnknownKey)
		mustRefuse(t, v, headed(`{"alg":"RS256","kid":""}`), access.ReasonUnknownKey)
		mustRefuse(t, v, headed(`{"alg":"RS256","kid":"../2026-07"}`), access.ReasonUnknownKey)
		mustRefuse(t, v, seal(`{"alg":"ES256","kid":"2026-07"}`, with(), es256(curveVector().key, nil)), access.ReasonAlgorithm)
		mustRefuse(t, v, seal(`{"alg":"RS256","kid":"curve"}`, with(), rs256(vector().key)), access.ReasonAlgorithm)

		// The set is not asked for a kid that is none, nor for a token that is none.
		before := o.requests()
		time.Sleep(31 * time.Second)
		mustRefuse(t, v, headed(`{"alg":"RS256","kid":"`+strings.Repeat("a", 256)+`"}`), access.ReasonUnknownKey)
		mustRefuse(t, v, headed(`{"alg":"RS256","kid":"new","crit":[]}`), access.ReasonCriticalHeader)
		fetched(t, o, before)
	})
}

// That keys cannot be had is not the caller's fault, and not an answer about its token.
func TestKeysThatCannotBeHadAreNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bank()
		c.Keys, c.KeySet = nil, opened(t, &origin{err: errors.New("connection refused")})
		who, err := authenticate(verifierOf(t, c), signed(with()))
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || later.RetryAfter() <= 0 || access.ReasonOf(err) != "" || who.Issuer != "" {
			t.Fatalf("%+v, %v", who, err)
		}
	})
}

// A key set is not believed more than the operator: what it gives is checked again.
func TestKeysOfASetAreCheckedLikeConfiguredOnes(t *testing.T) {
	weak := *vector().key
	weak.E = 3
	for name, key := range map[string]access.Key{
		"nothing":            {},
		"exponent 3":         {ID: kid, Algorithm: access.RS256, Public: &weak.PublicKey},
		"no such algorithm":  {ID: kid, Algorithm: "none", Public: &vector().key.PublicKey},
		"another kid":        {ID: "other", Algorithm: access.RS256, Public: &vector().key.PublicKey},
		"no kid":             {Algorithm: access.RS256, Public: &vector().key.PublicKey},
		"key of another one": {ID: kid, Algorithm: access.ES256, Public: &vector().key.PublicKey},
	} {
		c := bank()
		c.Keys, c.KeySet = nil, fixed{key: key}
		t.Run(name, func(t *testing.T) { mustRefuse(t, verifierOf(t, c), signed(with()), access.ReasonUnknownKey) })
	}
	c := bank()
	c.Keys, c.KeySet = nil, fixed{key: access.Key{ID: "a\nb", Algorithm: access.RS256, Public: &vector().key.PublicKey}}
	mustRefuse(t, verifierOf(t, c), headed(`{"alg":"RS256"}`), access.ReasonUnknownKey)
}

// FuzzKeySet holds that no set, whatever it says, gives a key that a configuration
// would not be allowed, or panics.
func FuzzKeySet(f *testing.F) {
	f.Add(set(entry(), curveEntry()))
	f.Add(set(entry("kid", ""), `{"kty":"OKP"}`))
	f.Add(set(entry("d", `""`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := access.NewJWKS(jwksURL, &origin{answer: access.Fetched{Body: body}}, time.Now)
		defer s.Close()
		k, err := s.Key(t.Context(), "")
		if err != nil {
			return
		}
		c := bank()
		c.Keys = []access.Key{k}
		if _, err := access.NewVerifier([]access.Client{c}, time.Now); err != nil {
			t.Fatalf("gave a key that is not fit: %v", err)
		}
		var parsed map[string]any
		if err := json.Unmarshal(body, &parsed); err != nil {
			t.Fatalf("read keys out of what is no JSON: %v", err)
		}
	})
}
