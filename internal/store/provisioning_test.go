package store_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// newClaim claims the nonce called name at a time, for a while.
func newClaim(name string, now time.Time, lease time.Duration) *provisioning.NonceClaim {
	return &provisioning.NonceClaim{Tenant: "bank", ID: sha256.Sum256([]byte(name)), Now: now, Until: now.Add(lease)}
}

// The states a nonce goes through, and who gets it: each step is a claim or the end of
// an earlier claim, with what comes of it.
func TestNonceHasOneClaimantAtATime(t *testing.T) { onEach(t, testNonceHasOneClaimantAtATime) }

func testNonceHasOneClaimantAtATime(t *testing.T, e engine) {
	const lease = time.Minute
	type step struct {
		after time.Duration // since noon
		do    string        // "claim", or "free" or "use" of the claim called of
		of    string
		as    string // the name of a claim that is made
		fence int64  // of a claim that is made
		used  bool   // ErrNonceUsed instead
	}
	for name, steps := range map[string][]step{
		"new": {
			{do: "claim", as: "A", fence: 1},
		},
		"claimed again": {
			{do: "claim", as: "A", fence: 1},
			{do: "claim", used: true},
			{after: lease - time.Millisecond, do: "claim", used: true},
		},
		"lease over: taken over": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: 2*lease - time.Millisecond, do: "claim", used: true},
			{after: 2 * lease, do: "claim", as: "C", fence: 3},
		},
		"freed: claimed again, the fence goes on": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "claim", as: "B", fence: 2},
			{do: "free", of: "B"},
			{do: "claim", as: "C", fence: 3},
		},
		"used: never again": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "claim", used: true},
			{after: 1000 * time.Hour, do: "claim", used: true},
		},
		"old claim cannot end a newer one": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: lease, do: "use", of: "A", used: true},
			{after: lease, do: "free", of: "A", used: true},
			{after: lease, do: "claim", used: true},
			{after: lease, do: "use", of: "B"},
		},
		"freed claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "free", of: "A", used: true},
			{do: "use", of: "A", used: true},
			{do: "claim", as: "B", fence: 2},
			{do: "use", of: "A", used: true},
			{do: "use", of: "B"},
		},
		"used claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "use", of: "A", used: true},
			{do: "free", of: "A", used: true},
			{do: "claim", used: true},
		},
		"late, and nobody came: it ends well": {
			{do: "claim", as: "A", fence: 1},
			{after: 10 * lease, do: "use", of: "A"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			claims := map[string]*provisioning.NonceClaim{}
			committed := 0
			for i, st := range steps {
				var change record.Change
				c := newClaim("nonce", noon.Add(st.after), lease)
				switch st.do {
				case "claim":
					change = c
				default:
					change = provisioning.NonceEnd{Claim: *claims[st.of], Used: st.do == "use"}
				}
				err := appendEntry(t, s, change)
				if st.used != errors.Is(err, provisioning.ErrNonceUsed) || (err != nil) != st.used {
					t.Fatalf("step %d: %s gives %v", i, st.do, err)
				}
				if err == nil {
					committed++
				}
				if st.as != "" {
					if c.Fence != st.fence {
						t.Fatalf("step %d: fence %d, want %d", i, c.Fence, st.fence)
					}
					claims[st.as] = c
				}
				if all := entries(t, s); len(all) != committed {
					t.Fatalf("step %d: %d entries, want %d", i, len(all), committed)
				}
			}
		})
	}
}

func TestNoncesOfTwoTenantsAreTwo(t *testing.T) { onEach(t, testNoncesOfTwoTenantsAreTwo) }

func testNoncesOfTwoTenantsAreTwo(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	a, b := newClaim("nonce", noon, time.Minute), newClaim("nonce", noon, time.Minute)
	b.Tenant = "other bank"
	mustAppend(t, s, a)
	mustAppend(t, s, b)
	// Neither ends the other's.
	mustAppend(t, s, provisioning.NonceEnd{Claim: *a, Used: true})
	mustAppend(t, s, provisioning.NonceEnd{Claim: *b})
	b = newClaim("nonce", noon, time.Minute)
	b.Tenant = "other bank"
	mustAppend(t, s, b)
	if b.Fence != 2 {
		t.Errorf("fence %d, want 2", b.Fence)
	}
}

func TestEndOfANonceThatNobodyClaimedIsRefused(t *testing.T) {
	onEach(t, testEndOfANonceThatNobodyClaimedIsRefused)
}

func testEndOfANonceThatNobodyClaimedIsRefused(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	for _, used := range []bool{false, true} {
		if err := appendEntry(t, s, provisioning.NonceEnd{Claim: *newClaim("nonce", noon, time.Minute), Used: used}); !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("used %v: %v", used, err)
		}
	}
	mustAppend(t, s, newClaim("nonce", noon, time.Minute))
}

func TestOfManyClaimsAtOnceOneWins(t *testing.T) { onEach(t, testOfManyClaimsAtOnceOneWins) }

func testOfManyClaimsAtOnceOneWins(t *testing.T, e engine) {
	const claimants = 200
	s, _ := e.openNew(t)
	errs, claims := make([]error, claimants), make([]*provisioning.NonceClaim, claimants)
	var all sync.WaitGroup
	for i := range claimants {
		claims[i] = newClaim("nonce", noon, time.Minute)
		all.Go(func() { errs[i] = appendTo(s, claims[i]) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		t.Fatal("nobody won")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("claimant %d beside the winner: %v", i, err)
		}
	}
	if claims[winner].Fence != 1 || len(entries(t, s)) != 1 {
		t.Errorf("fence %d and %d entries, want one of each", claims[winner].Fence, len(entries(t, s)))
	}
}
