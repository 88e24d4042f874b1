package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Fetched is what a [Fetcher] brings.
type Fetched struct {
	Body        []byte        // the answer's content, unless NotModified
	ETag        string        // its entity tag, empty if it has none
	MaxAge      time.Duration // how long it may be used by its Cache-Control; 0 if it does not say, or says not at all
	NotModified bool          // the content is still the one of the ETag that was asked with
}

// A Fetcher fetches a document from elsewhere. It bounds the size and the time, and
// whom it connects to; it follows no redirect. It does not retry.
type Fetcher interface {
	// Get fetches url; if etag is not empty, on the condition that it has changed
	// (RFC 9110, 13.1.2). The error must not hold the query of the address, nor any
	// of the content: it goes to the log.
	Get(ctx context.Context, url, etag string) (Fetched, error)
}

// When a JWKS is fetched.
const (
	minRefresh   = time.Minute      // it is used this long whatever its Cache-Control says
	maxRefresh   = time.Hour        // and no longer than this without asking again
	minInterval  = 30 * time.Second // between two attempts, whatever gives the occasion
	maxStale     = 24 * time.Hour   // keys that could not be confirmed for so long are not believed
	fetchTimeout = 15 * time.Second // ends an attempt whose Fetcher has no bound of its own
)

// JWKS is a [KeySet] that a client publishes as a JWK Set (RFC 7517, 5).
//
// Nothing is fetched before the first call. From then on it is fetched again when it
// is due by its Cache-Control, and when a kid is asked for that is not in it; one
// attempt at a time, and not more often than every 30 seconds, so that tokens with
// made-up kids cannot turn us on the client. While a due set is fetched the old one
// goes on being used. It is waited for where there is none, where the kid is not in
// it, and after a pause without calls, in which a key may have been withdrawn long ago.
//
// A set that cannot be fetched or is refused leaves the old one in use for 24 hours at
// most: that long a client may be without its JWKS endpoint, and that long can who
// cuts it off from us keep a withdrawn key alive.
type JWKS struct {
	url   string
	fetch Fetcher
	now   func() time.Time

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex // guards the rest; not held while fetching
	status JWKSStatus
	keys   fixedKeys // nil until a fetch succeeds; never written to
	etag   string
	due    time.Time     // when the keys should be fetched again
	tried  time.Time     // when the last attempt began
	flight chan struct{} // of the attempt under way, closed at its end; nil if there is none
}

// JWKSStatus says how a [JWKS] stands, for health and metrics.
type JWKSStatus struct {
	Keys       int       // keys that can verify tokens
	PassedOver int       // other keys of the set
	Confirmed  time.Time // when the last fetch began that succeeded; zero if none has
	Err        error     // why the last attempt failed; nil if it succeeded
}

// NewJWKS gives the key set that is published at url. now is time.Now outside tests.
// Close it at the end.
func NewJWKS(url string, fetch Fetcher, now func() time.Time) *JWKS {
	ctx, cancel := context.WithCancel(context.Background())
	return &JWKS{url: url, fetch: fetch, now: now, ctx: ctx, cancel: cancel}
}

// Close ends an attempt under way and waits for it; there are no further ones. The
// keys go on being given for as long as they may.
func (s *JWKS) Close() {
	s.cancel()
	s.mu.Lock()
	flight := s.flight
	s.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

// Status says how the set stands.
func (s *JWKS) Status() JWKSStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Key implements KeySet.
func (s *JWKS) Key(ctx context.Context, kid string) (Key, error) {
	k, wait, err := s.look(ctx, kid, true)
	if wait == nil {
		return k, err
	}
	select {
	case <-wait:
		k, _, err = s.look(ctx, kid, false)
		return k, err
	case <-ctx.Done():
		return Key{}, &keysUnavailable{after: time.Second, cause: ctx.Err()}
	}
}

// look looks the key up and starts an attempt if there is occasion for one. If the
// answer should wait for an attempt, wait is closed at its end.
func (s *JWKS) look(ctx context.Context, kid string, mayWait bool) (k Key, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	usable := s.keys != nil && now.Sub(s.status.Confirmed) < maxStale
	if usable {
		k, err = s.keys.Key(ctx, kid)
	} else {
		err = &keysUnavailable{cause: cmp.Or(s.status.Err, errNotFetched)}
	}
	overdue := now.Sub(s.due)
	if mayWait && (err != nil || overdue >= 0) {
		s.start(now)
		if err != nil || overdue >= maxRefresh && s.status.Err == nil {
			wait = s.flight
		}
	}
	var u *keysUnavailable
	if errors.As(err, &u) {
		u.after = max(minInterval-now.Sub(s.tried), time.Second)
	}
	return k, wait, err
}

// start begins an attempt, unless one is under way or the last is too recent. The
// caller holds mu.
func (s *JWKS) start(now time.Time) {
	if s.flight != nil || s.ctx.Err() != nil || !s.tried.IsZero() && now.Sub(s.tried) < minInterval {
		return
	}
	s.tried, s.flight = now, make(chan struct{})
	etag := s.etag
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, fetchTimeout)
		defer cancel()
		got, err := s.fetch.Get(ctx, s.url, etag)
		s.end(now, etag, got, err)
	}()
}

// end takes over what the attempt begun at the given time has brought.
func (s *JWKS) end(begun time.Time, etag string, got Fetched, err error) {
	var keys fixedKeys
	var passedOver int
	switch {
	case err != nil:
		err = fmt.Errorf("fetch key set: %w", err)
	case got.NotModified && etag == "":
		err = errors.New("fetch key set: answered not modified without being asked")
	case !got.NotModified:
		if keys, passedOver, err = readKeySet(got.Body); err != nil {
			err = fmt.Errorf("key set refused: it %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Err = err
	if err == nil {
		s.status.Confirmed = begun
		s.due = begun.Add(min(max(got.MaxAge, minRefresh), maxRefresh))
	}
	if err == nil && !got.NotModified {
		s.keys, s.etag = keys, got.ETag
		s.status.Keys, s.status.PassedOver = len(keys), passedOver
	}
	close(s.flight)
	s.flight = nil
}

// errNotFetched is why there are no keys before the first attempt has ended.
var errNotFetched = errors.New("key set not fetched yet")

// keysUnavailable says that a key set cannot be had now.
type keysUnavailable struct {
	after time.Duration
	cause error
}

// Error says why.
func (u *keysUnavailable) Error() string {
	return fmt.Sprintf("keys of the client not available: %v", u.cause)
}

// Unwrap gives the cause.
func (u *keysUnavailable) Unwrap() error { return u.cause }

// RetryAfter is how long a caller should wait before it tries again.
func (u *keysUnavailable) RetryAfter() time.Duration { return u.after }
