package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

// cluster is two processes' stores on one PostgreSQL.
type cluster struct {
	*testing.T
	dsn string
	db  *sql.DB // beside both
	two [2]*opened
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, dsn: engines[1].newPlace(t)}
	c.db = engines[1].beside(t, c.dsn)
	// Deadlocks are sought here: each is found at once, and not after a second, of which several
	// would be longer than a row is waited for.
	execute(t, c.db, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 20', current_database()); END $$`)
	c.two = [2]*opened{replica(t, c.dsn, "a"), replica(t, c.dsn, "b")}
	for _, s := range c.two {
		patient(t, s)
	}
	return c
}

// patient has a process wait for rows for as long as a busy machine takes to commit: how long it
// waits for who stands still has its own test. The writer's limit on a transaction is shorter, and
// where it ends one the connection goes, with what is set here.
func patient(t *testing.T, s *opened) {
	t.Helper()
	s.writer = audit.NewWriter(unhurried{s.Store}, clock)
	if err := store.OnWriter(s.Store, "SET lock_timeout = '1min'"); err != nil {
		t.Fatal(err)
	}
}

// unhurried is a store whose transactions last until the database ends them.
type unhurried struct{ *store.Store }

func (u unhurried) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	return u.Store.Commit(context.WithoutCancel(ctx), batch, number)
}

// callers is how many come at once, half of them to each process.
const callers = 32

// race has them all do something at once, and counts who succeeded. The others get an error
// that is lost.
func (c *cluster) race(lost func(error) bool, do func(s *opened, i int) error) (won int) {
	c.Helper()
	var winners atomic.Int32
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			switch err := do(c.two[i%2], i); {
			case err == nil:
				winners.Add(1)
			case lost == nil || !lost(err):
				c.Errorf("caller %d: %v", i, err)
			}
		})
	}
	all.Wait()
	return int(winners.Load())
}

// rows asks the database, beside both.
func (c *cluster) rows(query string) string {
	c.Helper()
	return strings.Join(rowsOf(c, c.db, query), ", ")
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// What can be had once, or a number of times, is had so often by all processes together.
func TestWhatIsCountedIsCountedAcrossProcesses(t *testing.T) {
	c := newCluster(t)
	row := passes.PassRow{ID: passes.ID{TypeID: passes.TypeID{Tenant: "shop", Type: "pass.a"}, Serial: "1"}, Ref: 7, Document: []byte(`{}`), Token: "token"}
	mustAppendEach(t, c.two[0], approval.Proposal{Change: proposal("1")}, passes.PassPut{Row: &row, Now: noon}, passcodeRow("code", 3),
		provisioning.TokenPut{Token: walletToken("there", 1)})
	change := func(make func(i int) record.Change) func(*opened, int) error {
		return func(s *opened, i int) error { return appendTo(s, make(i)) }
	}
	for name, tc := range map[string]struct {
		do   func(s *opened, i int) error
		lost func(error) bool
		won  int
	}{
		"a nonce":            {change(func(int) record.Change { return newClaim("nonce", noon, time.Minute) }), is(provisioning.ErrNonceUsed), 1},
		"a single-use token": {change(func(int) record.Change { return newUse("token", noon, time.Minute) }), is(access.ErrReplayed), 1},
		"an encrypted card": {change(func(int) record.Change {
			return &provisioning.MessageClaim{Tenant: "bank", Now: noon, Until: noon.Add(time.Minute), Expires: noon.Add(time.Hour)}
		}), is(provisioning.ErrMessageUsed), 1},
		"an approval": {change(func(int) record.Change { return claimed("1", proposed) }), is(approval.ErrNotOpen), 1},
		"a personalisation": {change(func(int) record.Change {
			return &passes.PersonalClaim{Pass: row, Now: noon, Until: noon.Add(time.Minute)}
		}), is(passes.ErrPersonalized), 1},
		"a wallet token's first state": {change(func(int) record.Change { return provisioning.TokenPut{Token: walletToken("new", 1)} }), is(provisioning.ErrTokenChanged), 1},
		"a wallet token's next state":  {change(func(int) record.Change { return provisioning.TokenPut{Token: walletToken("there", 2), Was: 1} }), is(provisioning.ErrTokenChanged), 1},
		"a tenant's next enablement": {change(func(int) record.Change {
			return provisioning.EnablementPut{Enablement: provisioning.Enablement{Tenant: "bank", Revision: 1, Changed: noon}}
		}), is(provisioning.ErrEnablementChanged), 1},
		"the tokens of a day":        {change(func(int) record.Change { return use("client", "2026-11-22", 7) }), is(merchant.ErrQuota), 7},
		"the attempts at a passcode": {change(func(int) record.Change { return attempt("code", 0) }), is(provisioning.ErrPasscodeSpent), 3},
		"the passcodes of an hour": {change(func(i int) record.Change {
			r := passcodeRow(fmt.Sprint("another ", i), 3)
			r.Card = []byte("another card")
			return r
		}), as[*provisioning.TooManyPasscodesError], 5},
		"the files of a tenant": {change(func(i int) record.Change {
			return passes.AssetPut{Tenant: "shop", SHA256: fmt.Sprint(i), Content: []byte("x"), Limits: passes.Limits{Files: 4}, Now: noon}
		}), as[*passes.QuotaError], 4},
		"the devices of a pass": {func(s *opened, i int) error {
			_, err := s.Register(t.Context(), passes.Registration{Device: passes.DeviceKey{byte(i)}, Pass: row, PushToken: fmt.Sprint(i), Limit: 6, At: noon})
			return err
		}, as[*passes.QuotaError], 6},
	} {
		t.Run(name, func(t *testing.T) {
			if won := c.race(tc.lost, tc.do); won != tc.won {
				t.Errorf("%d of %d had it, want %d", won, callers, tc.won)
			}
		})
	}
}

// What has an order has one across processes, without a gap, and nobody is sent away for it.
func TestWhatIsNumberedIsNumberedAcrossProcesses(t *testing.T) {
	c := newCluster(t)
	id := passes.ID{TypeID: passes.TypeID{Tenant: "shop", Type: "pass.a"}, Serial: "1"}
	c.race(nil, func(s *opened, i int) error { return appendTo(s, decided(fmt.Sprint(i), byte(i), 0)) })
	same(t, fmt.Sprint(callers, " 1 ", callers), c.rows("SELECT COUNT(DISTINCT number) || ' ' || MIN(number) || ' ' || MAX(number) FROM provisioning_decisions"))
	c.race(nil, func(s *opened, i int) error {
		return appendTo(s, passes.PassPut{Row: &passes.PassRow{ID: id, Ref: int64(i + 1), Document: []byte(`{}`), Token: "token"}, Push: true, Now: noon})
	})
	same(t, fmt.Sprint(callers), c.rows("SELECT version FROM passes"))
	var created atomic.Int32
	c.race(nil, func(s *opened, i int) error {
		pass, _, err := s.PassOf(t.Context(), id)
		if err != nil {
			return err
		}
		made, err := s.Register(t.Context(), passes.Registration{Device: passes.DeviceKey{1}, Pass: pass, PushToken: "push", At: noon})
		if made {
			created.Add(1)
		}
		return err
	})
	same(t, int32(1), created.Load())
}

// What takes more than one statement waits for whoever does the same, and goes on from what he
// has committed.
func TestWhatIsCountedWaitsForWhoCounts(t *testing.T) {
	c := newCluster(t)
	passcode := func(id string) record.Change {
		r := passcodeRow(id, 3)
		r.PerHour = 1
		return r
	}
	file := func(sum string) record.Change {
		return passes.AssetPut{Tenant: "shop", SHA256: sum, Content: []byte("x"), Limits: passes.Limits{Files: 1}, Now: noon}
	}
	for name, tc := range map[string]struct {
		first, second record.Change
		lost          func(error) bool // nil: there is room for both
		rows, want    string
	}{
		"decisions": {
			decided("first", 1, 0), decided("second", 2, 0), nil,
			"SELECT id || ' ' || number FROM provisioning_decisions ORDER BY number", "first 1, second 2",
		},
		"passcodes": {passcode("first"), passcode("second"), as[*provisioning.TooManyPasscodesError], "SELECT id FROM one_time_passcodes", "first"},
		"files":     {file("first"), file("second"), as[*passes.QuotaError], "SELECT sha256 FROM pass_assets", "first"},
	} {
		t.Run(name, func(t *testing.T) {
			open, err := store.ApplyOpen(t.Context(), c.db, c.two[0].Store, tc.first)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = open.Rollback() }() // no effect after a commit
			got := make(chan error, 1)
			go func() { got <- appendTo(c.two[1], tc.second) }()
			for waiting := 0; waiting == 0; {
				if err := c.db.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-got:
					t.Fatalf("the second did not wait: %v", err)
				default:
				}
			}
			if err := open.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-got; tc.lost == nil && err != nil || tc.lost != nil && !tc.lost(err) {
				t.Errorf("the second: %v", err)
			}
			same(t, tc.want, c.rows(tc.rows))
		})
	}
}

// An entry of an outbox is one process's at a time. What a process leaves leased when it ends
// is free at once for the next on its log, and for the others when the lease is over.
func TestOutboxIsEmptiedByAllProcesses(t *testing.T) {
	c := newCluster(t)
	mustAppendEach(t, c.two[0], notice("x0", time.Time{}))
	for i := range callers - 1 {
		mustAppendEach(t, c.two[i%2], notice(fmt.Sprint("x", i+1), time.Time{}))
	}
	var mu sync.Mutex // guards leased
	leased := map[string]int{}
	c.race(nil, func(s *opened, _ int) error {
		all, err := s.LeaseNotices(t.Context(), noon, noon.Add(time.Minute), 3)
		mu.Lock()
		defer mu.Unlock()
		for _, n := range all {
			leased[n.ID]++
		}
		return err
	})
	for id, times := range leased {
		if times != 1 {
			t.Errorf("%s was leased %d times", id, times)
		}
	}
	rest, err := c.two[0].LeaseNotices(t.Context(), noon, noon.Add(time.Minute), callers) // what others were taking was passed over
	if err != nil || len(leased)+len(rest) != callers {
		t.Fatalf("%d and then %d leased of %d, %v", len(leased), len(rest), callers, err)
	}
	mine := c.rows("SELECT COUNT(*) FROM network_notices WHERE log = 1")
	if err := c.two[0].Close(); err != nil {
		t.Fatal(err)
	}
	again := replica(t, c.dsn, "a")
	if err := again.FreeNotices(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	freed, err := again.LeaseNotices(t.Context(), noon, noon.Add(time.Minute), callers)
	same(t, mine, fmt.Sprint(len(freed)))
	if err != nil {
		t.Error(err)
	}
	over, err := again.LeaseNotices(t.Context(), noon.Add(time.Minute), noon.Add(2*time.Minute), 2*callers)
	if err != nil || len(over) != callers {
		t.Errorf("after the lease %d of %d are due, %v", len(over), callers, err)
	}
}

// Transactions that lock the same rows in different order get through, whoever is first.
func TestProcessesThatWaitForEachOtherGetThrough(t *testing.T) {
	c := newCluster(t)
	c.race(nil, func(s *opened, i int) error {
		first, second := use("a", "2026-11-22", 1000), use("b", "2026-11-22", 1000)
		if i%2 == 0 {
			first, second = second, first
		}
		for range 2 {
			eventually(t, s, first, second) // on a slow machine one may wait too long, and come again
		}
		return nil
	})
	want := fmt.Sprint(2 * callers)
	same(t, "a 2026-11-22 "+want+", b 2026-11-22 "+want, c.rows(quotaRows))
	requireTree(t, c.two[0], callers)
	requireTree(t, c.two[1], callers)
}

// A process that stands still in the middle of a transaction holds up what needs its rows, and
// nothing else.
func TestProcessThatStandsStillHoldsUpItsRowsAlone(t *testing.T) {
	c := newCluster(t)
	mustAppend(t, c.two[0], use("a", "2026-11-22", 9))
	stopped, err := c.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stopped.Exec("UPDATE merchant_quotas SET used = used + 1"); err != nil {
		t.Fatal(err)
	}
	batch := []*audit.Append{
		{Entry: entry(`{"n":1}`), Changes: changes(use("a", "2026-11-22", 9))},
		{Entry: entry(`{"n":2}`), Changes: changes(use("b", "2026-11-22", 9))},
		{Entry: entry(`{"n":3}`), Changes: changes(use("a", "2026-11-22", 9))},
		{Entry: entry(`{"n":4}`)},
	}
	if err := store.OnWriter(c.two[1].Store, "RESET lock_timeout"); err != nil { // to the service's own
		t.Fatal(err)
	}
	for i, err := range commitTogether(t, c.two[1], batch) {
		if i%2 == 0 {
			requireUnavailable(t, err)
		} else if err != nil {
			t.Errorf("append %d: %v", i+1, err)
		}
	}
	requireUnavailable(t, commitTogether(t, c.two[1], batch[:1])[0]) // alone in its batch
	requireTree(t, c.two[1], 2)
	if err := stopped.Rollback(); err != nil {
		t.Fatal(err)
	}
	same(t, "a 2026-11-22 1, b 2026-11-22 1", c.rows(quotaRows))
	mustAppend(t, withWriter(c.two[1].Store), use("a", "2026-11-22", 9))
}
