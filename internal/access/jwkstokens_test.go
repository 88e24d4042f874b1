package access_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

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
