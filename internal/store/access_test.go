package store_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/record"
)

// newUse claims the token called name at a time, for a while; the token lives a quarter of
// an hour longer.
func newUse(name string, now time.Time, lease time.Duration) *access.TokenUse {
	return &access.TokenUse{Issuer: "https://issuer", ID: sha256.Sum256([]byte(name)), Now: now, Until: now.Add(lease), Expires: now.Add(15 * time.Minute)}
}

// The states a single-use token goes through, and who gets it.
func TestTokenHasOneClaimantAtATime(t *testing.T) { onEach(t, testTokenHasOneClaimantAtATime) }

func testTokenHasOneClaimantAtATime(t *testing.T, e engine) {
	const lease = time.Minute
	type step struct {
		after    time.Duration // since noon
		do       string        // "claim", or "free" or "use" of the claim called of
		of       string
		as       string // the name of a claim that is made
		fence    int64  // of a claim that is made
		replayed bool   // ErrReplayed instead
	}
	for name, steps := range map[string][]step{
		"new": {
			{do: "claim", as: "A", fence: 1},
		},
		"claimed again": {
			{do: "claim", as: "A", fence: 1},
			{do: "claim", replayed: true},
			{after: lease - time.Millisecond, do: "claim", replayed: true},
		},
		"lease over: taken over": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: 2*lease - time.Millisecond, do: "claim", replayed: true},
			{after: 2 * lease, do: "claim", as: "C", fence: 3},
		},
		"freed: claimed again, the fence goes on": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "claim", as: "B", fence: 2},
			{do: "free", of: "B"},
			{do: "claim", as: "C", fence: 3},
		},
		"used: never again while it lives": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "claim", replayed: true},
			{after: 15*time.Minute - time.Millisecond, do: "claim", replayed: true},
		},
		"old claim cannot end a newer one": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: lease, do: "use", of: "A", replayed: true},
			{after: lease, do: "free", of: "A", replayed: true},
			{after: lease, do: "claim", replayed: true},
			{after: lease, do: "use", of: "B"},
		},
		"freed claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "free", of: "A", replayed: true},
			{do: "use", of: "A", replayed: true},
			{do: "claim", as: "B", fence: 2},
			{do: "use", of: "A", replayed: true},
			{do: "use", of: "B"},
		},
		"used claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "use", of: "A", replayed: true},
			{do: "free", of: "A", replayed: true},
			{do: "claim", replayed: true},
		},
		"late, and nobody came: it ends well": {
			{do: "claim", as: "A", fence: 1},
			{after: 10 * lease, do: "use", of: "A"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			uses := map[string]*access.TokenUse{}
			committed := 0
			for i, st := range steps {
				u := newUse("token", noon.Add(st.after), lease)
				u.Expires = noon.Add(15 * time.Minute) // it is one token
				var change record.Change = u
				if st.do != "claim" {
					change = uses[st.of].End(st.do == "use")
				}
				err := appendEntry(t, s, change)
				if st.replayed != errors.Is(err, access.ErrReplayed) || (err != nil) != st.replayed {
					t.Fatalf("step %d: %s gives %v", i, st.do, err)
				}
				if err == nil {
					committed++
				}
				if st.as != "" {
					if u.Fence != st.fence {
						t.Fatalf("step %d: fence %d, want %d", i, u.Fence, st.fence)
					}
					uses[st.as] = u
				}
				if all := entries(t, s); len(all) != committed {
					t.Fatalf("step %d: %d entries, want %d", i, len(all), committed)
				}
			}
		})
	}
}

func TestEndOfATokenThatNobodyClaimedIsRefused(t *testing.T) {
	onEach(t, testEndOfATokenThatNobodyClaimedIsRefused)
}

func testEndOfATokenThatNobodyClaimedIsRefused(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	for _, used := range []bool{false, true} {
		if err := appendEntry(t, s, newUse("token", noon, time.Minute).End(used)); !errors.Is(err, access.ErrReplayed) {
			t.Errorf("used %v: %v", used, err)
		}
	}
	mustAppend(t, s, newUse("token", noon, time.Minute))
}

func TestOfManyUsesOfATokenOneWins(t *testing.T) { onEach(t, testOfManyUsesOfATokenOneWins) }

func testOfManyUsesOfATokenOneWins(t *testing.T, e engine) {
	const claimants = 200
	s, _ := e.openNew(t)
	errs, uses := make([]error, claimants), make([]*access.TokenUse, claimants)
	var all sync.WaitGroup
	for i := range claimants {
		uses[i] = newUse("token", noon, time.Minute)
		all.Go(func() { errs[i] = appendTo(s, uses[i]) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		t.Fatal("nobody won")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, access.ErrReplayed) {
			t.Errorf("claimant %d beside the winner: %v", i, err)
		}
	}
	if uses[winner].Fence != 1 || len(entries(t, s)) != 1 {
		t.Errorf("fence %d and %d entries, want one of each", uses[winner].Fence, len(entries(t, s)))
	}
}

// Two tokens may have one jti. Whichever claims it, the row stays until the last of them is
// dead: forgotten with the first, the second could be replayed.
func TestTokenIsRememberedForAsLongAsAnyWithItsIDLives(t *testing.T) {
	onEach(t, testTokenIsRememberedForAsLongAsAnyWithItsIDLives)
}

func testTokenIsRememberedForAsLongAsAnyWithItsIDLives(t *testing.T, e engine) {
	for name, test := range map[string]struct{ first, second, dead time.Duration }{
		"the second lives longer": {5 * time.Minute, 15 * time.Minute, 15 * time.Minute},
		"the first lives longer":  {15 * time.Minute, 5 * time.Minute, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			first, second := newUse("token", noon, time.Minute), newUse("token", noon, time.Minute)
			first.Expires, second.Expires = noon.Add(test.first), noon.Add(test.second)
			mustAppend(t, s, first)
			mustAppend(t, s, first.End(false))
			mustAppend(t, s, second)
			mustAppend(t, s, second.End(true))
			again := newUse("token", noon.Add(test.dead-time.Millisecond), time.Minute)
			if err := appendEntry(t, s, again); !errors.Is(err, access.ErrReplayed) {
				t.Errorf("before its end: %v", err)
			}
		})
	}
}

// Rows of dead tokens go, a few with each new one; those of live ones, and of claims whose
// lease runs on, stay.
func TestDeadTokensAreForgotten(t *testing.T) { onEach(t, testDeadTokensAreForgotten) }

func testDeadTokensAreForgotten(t *testing.T, e engine) {
	s, path := e.openNew(t)
	db := e.beside(t, path)
	for _, name := range strings.Split("abcdefghijklmnopqrst", "") { // 20, dead after 15 minutes
		u := newUse(name, noon, time.Minute)
		mustAppend(t, s, u)
		mustAppend(t, s, u.End(name < "k"))
	}
	leased := newUse("leased", noon, time.Hour)
	mustAppend(t, s, leased)
	alive := newUse("alive", noon.Add(time.Minute), time.Minute)
	mustAppend(t, s, alive)
	count := func() string { return rowsOf(t, db, "SELECT COUNT(*) FROM used_tokens")[0] }
	if count() != "22" {
		t.Fatalf("%s rows", count())
	}
	at := noon.Add(15 * time.Minute)
	// A claim that fails takes its tidying back with it.
	if err := appendEntry(t, s, newUse("leased", at, time.Minute)); !errors.Is(err, access.ErrReplayed) || count() != "22" {
		t.Errorf("%v, and then %s rows", err, count())
	}
	for i, want := range []string{"15", "8", "5", "6"} { // eight less and one more, until the dead are gone
		mustAppend(t, s, newUse("new "+want, at, time.Minute))
		if count() != want {
			t.Errorf("after %d new tokens %s rows, want %s", i+1, count(), want)
		}
	}
	for _, still := range []*access.TokenUse{newUse("leased", at, time.Minute), newUse("alive", at.Add(-14*time.Minute), time.Minute)} {
		if err := appendEntry(t, s, still); !errors.Is(err, access.ErrReplayed) {
			t.Errorf("claimed again: %v", err)
		}
	}
}
