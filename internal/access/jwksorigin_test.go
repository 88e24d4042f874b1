package access_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

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
