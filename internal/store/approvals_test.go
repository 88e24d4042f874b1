package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

var (
	holder  = provisioning.Owner{Tenant: "bank", Issuer: "issuer", Subject: "user-1"}
	theCard = []byte("look-up value")
)

// mustAppendEach makes changes, each in a transaction of its own.
func mustAppendEach(t testing.TB, s *opened, all ...record.Change) {
	t.Helper()
	for _, c := range all {
		mustAppend(t, s, c)
	}
}

// decided is a decision about a card on a device, so long after noon.
func decided(id string, device byte, after time.Duration) provisioning.Decision {
	return provisioning.Decision{
		ID: id, Owner: holder, Card: theCard, Device: provisioning.Ref{device}, Session: provisioning.Ref{9}, Apple: path.Yellow, Path: path.Orange,
		Required: []path.Requirement{{Rule: "rule", AnyOf: []path.Step{path.CallCentre}}}, At: noon.Add(after), Until: noon.Add(after + time.Hour),
	}
}

func TestLatestDecisionOfEachDeviceCounts(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		others := decided("other's", 1, 0)
		others.Owner.Subject = "user-2"
		mustAppendEach(t, s, decided("first", 1, 0), decided("second", 1, 0), decided("phone", 2, time.Minute), others)
		latest := func(owner provisioning.Owner, card []byte, after time.Duration) []string {
			all, err := s.LatestDecisions(t.Context(), owner, card, noon.Add(after))
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{}
			for _, d := range all {
				ids = append(ids, d.ID)
			}
			slices.Sort(ids)
			return ids
		}
		same(t, []string{"phone", "second"}, latest(holder, theCard, 2*time.Minute))
		same(t, []string{"other's"}, latest(others.Owner, theCard, 2*time.Minute))
		same(t, []string{"phone"}, latest(holder, theCard, time.Hour)) // until is not in it
		same(t, []string{}, latest(holder, []byte("another"), 0))
		same(t, []string{}, latest(provisioning.Owner{Tenant: "shop", Issuer: "issuer", Subject: "user-1"}, theCard, 0))
		all, err := s.LatestDecisions(t.Context(), holder, theCard, noon.Add(time.Hour))
		if err != nil || len(all) != 1 {
			t.Fatal(err)
		}
		want := decided("phone", 2, time.Minute)
		want.Number = 3
		same(t, want, all[0])
	})
}

// notice is one that is due at noon.
func notice(id string, until time.Time) provisioning.Notice {
	return provisioning.Notice{ID: id, Tenant: "bank", Kind: provisioning.PasscodeNotice, Created: noon, Until: until,
		Body: signer.VaultRow{Key: "vault", IV: []byte{1}, Sealed: []byte("sealed")}}
}

// Whoever holds a lease is alone with it, and a lease that is over is somebody else's: who had
// it before can end nothing.
func TestNoticeIsLeasedUntilItsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		mustAppendEach(t, s, notice("a", time.Time{}), notice("b", noon.Add(time.Hour)))
		lease := func(after time.Duration, n int) []provisioning.LeasedNotice {
			t.Helper()
			got, err := s.LeaseNotices(t.Context(), noon.Add(after), noon.Add(after+time.Minute), n)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		end := func(e provisioning.NoticeEnd) {
			t.Helper()
			if err := s.EndNotices(t.Context(), []provisioning.NoticeEnd{e}); err != nil {
				t.Fatal(err)
			}
		}
		first := lease(0, 1)
		same(t, []provisioning.LeasedNotice{{Notice: notice("a", time.Time{}), Fence: 1}}, first)
		same(t, []provisioning.LeasedNotice{{Notice: notice("b", noon.Add(time.Hour)), Fence: 1}}, lease(0, 9))
		same(t, 0, len(lease(59*time.Second, 9)))
		second := lease(time.Minute, 1) // the lease of a is over
		same(t, int64(2), second[0].Fence)
		end(provisioning.NoticeEnd{ID: "a", Fence: 1}) // by whoever had it before
		end(provisioning.NoticeEnd{ID: "a", Fence: 2, RetryAt: noon.Add(2 * time.Minute)})
		third := lease(2*time.Minute, 1)
		same(t, []string{"b"}, ids(third)) // due for longer
		end(provisioning.NoticeEnd{ID: "b", Fence: third[0].Fence, RetryAt: noon.Add(2 * time.Hour), NotTried: true})
		fourth := lease(2*time.Minute, 9)
		same(t, 1, fourth[0].Attempts)
		end(provisioning.NoticeEnd{ID: "a", Fence: fourth[0].Fence})
		if err := s.FreeNotices(t.Context(), noon.Add(3*time.Minute)); err != nil {
			t.Fatal(err)
		}
		freed := lease(3*time.Minute, 9)
		same(t, []string{"b"}, ids(freed)) // although it was not due before two hours
		end(provisioning.NoticeEnd{ID: "b", Fence: freed[0].Fence - 1})
		end(provisioning.NoticeEnd{ID: "b", Fence: freed[0].Fence, RetryAt: noon.Add(2 * time.Hour), NotTried: true})
		same(t, 0, len(lease(3*time.Hour, 9))) // a is delivered, b of no use any more
	})
}

func ids(all []provisioning.LeasedNotice) (out []string) {
	for _, n := range all {
		out = append(out, n.ID)
	}
	return out
}

// A notice goes with the result that it tells of, or not at all.
func TestNoticeIsPutWithItsResultOrNotAtAll(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, place := e.openNew(t)
		e.failEntries(t, e.beside(t, place), audit.KindIntent)
		if err := appendEntry(t, s, notice("a", time.Time{})); err == nil {
			t.Fatal("the result was written")
		}
		if got, err := s.LeaseNotices(t.Context(), noon, noon.Add(time.Minute), 9); err != nil || len(got) != 0 {
			t.Errorf("leased %v, %v", got, err)
		}
	})
}

func passcodeRow(id string, attempts int) provisioning.PasscodeRow {
	return provisioning.PasscodeRow{
		ID: id, Owner: holder, Card: theCard, Device: provisioning.Ref{1}, Channel: "sms", Since: noon.Add(-time.Hour), Attempts: attempts,
		MAC: signer.PasscodeMAC{Key: "passcode", MAC: []byte("mac")}, Created: noon, Until: noon.Add(5 * time.Minute), PerHour: 5,
	}
}

func attempt(id string, after time.Duration) *provisioning.PasscodeAttempt {
	return &provisioning.PasscodeAttempt{Owner: holder, ID: id, Now: noon.Add(after)}
}

func TestPasscodeIsTriedAsOftenAsItMayBe(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		mustAppendEach(t, s, passcodeRow("code", 2))
		try := func(a *provisioning.PasscodeAttempt) error { return appendEntry(t, s, a) }
		strangers, anyones := attempt("code", 0), attempt("code", 0)
		strangers.Owner.Subject = "user-2"
		anyones.Owner.Subject, anyones.AnyOwner = "user-2", true
		for _, step := range []struct {
			name string
			a    *provisioning.PasscodeAttempt
			want error
		}{
			{"unknown", attempt("other", 0), provisioning.ErrUnknownPasscode},
			{"another owner", strangers, provisioning.ErrUnknownPasscode},
			{"expired", attempt("code", 5*time.Minute), provisioning.ErrPasscodeExpired},
			{"first", attempt("code", 5*time.Minute-1), nil},
			{"second, by who may use any", anyones, nil},
			{"third", attempt("code", 0), provisioning.ErrPasscodeSpent},
		} {
			if err := try(step.a); !errors.Is(err, step.want) {
				t.Errorf("%s: %v, want %v", step.name, err, step.want)
			}
		}
		got := anyones.Row
		same(t, 0, got.Attempts)
		same(t, holder, got.Owner)
		same(t, signer.PasscodeMAC{Key: "passcode", MAC: []byte("mac")}, got.MAC)
		verified := provisioning.PasscodeVerified{Tenant: "bank", ID: "code", At: noon.Add(time.Minute)}
		mustAppendEach(t, s, verified)
		if err := appendEntry(t, s, verified); !errors.Is(err, provisioning.ErrPasscodeUsed) {
			t.Errorf("verified again: %v", err)
		}
		if err := try(attempt("code", 0)); !errors.Is(err, provisioning.ErrPasscodeUsed) {
			t.Errorf("tried after it was verified: %v", err)
		}
		rows, err := s.VerifiedPasscodes(t.Context(), holder, theCard, []string{"code", "other"})
		if err != nil || len(rows) != 1 || !rows[0].Verified.Equal(noon.Add(time.Minute)) || !rows[0].Since.Equal(noon.Add(-time.Hour)) || rows[0].Channel != "sms" {
			t.Errorf("verified are %+v, %v", rows, err)
		}
	})
}

// A newer passcode takes the place of the one before, and a card has only so many in an hour.
func TestCardHasOnePasscodeAndFewInAnHour(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		for i := range 5 {
			mustAppendEach(t, s, passcodeRow(fmt.Sprint(i), 3))
		}
		if err := appendEntry(t, s, attempt("3", 0)); !errors.Is(err, provisioning.ErrPasscodeSpent) {
			t.Errorf("the one before: %v", err)
		}
		mustAppendEach(t, s, attempt("4", 0))
		sixth := passcodeRow("5", 3)
		sixth.Created = noon.Add(20 * time.Minute)
		var tooMany *provisioning.TooManyPasscodesError
		if err := appendEntry(t, s, sixth); !errors.As(err, &tooMany) || tooMany.After != 40*time.Minute {
			t.Errorf("the sixth: %v", err)
		}
		others := passcodeRow("other's", 3)
		others.Owner.Subject = "user-2"
		mustAppendEach(t, s, others)
		sixth.Created = noon.Add(time.Hour)
		mustAppendEach(t, s, sixth)
	})
}

// Guesses that come at once over two connections, as they would from two processes, never get
// more attempts than there are.
func TestGuessesOverTwoConnectionsNeverExceedTheLimit(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, place := e.openNew(t)
		const limit, guesses = 3, 24
		mustAppendEach(t, s, passcodeRow("code", limit))
		other := e.beside(t, place)
		var mu sync.Mutex // guards taken and others
		taken, others := 0, []error{}
		var all sync.WaitGroup
		for i := range guesses {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				var err error
				if i%2 == 0 {
					err = s.Append(ctx, entry(`{}`), changes(attempt("code", 0)))
				} else {
					err = store.ApplyBeside(ctx, other, s.Store, attempt("code", 0))
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					taken++
				case !errors.Is(err, provisioning.ErrPasscodeSpent):
					others = append(others, err) // the database was busy: nothing was taken
				}
			})
		}
		all.Wait()
		if taken > limit || taken < 1 {
			t.Errorf("%d attempts were taken of %d", taken, limit)
		}
		if len(others) == 0 && taken != limit {
			t.Errorf("%d attempts were taken of %d", taken, limit)
		}
	})
}
