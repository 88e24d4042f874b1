package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// Several processes write to one PostgreSQL, each with its own connection and its own log.
// Their transactions meet in business rows, at the isolation level READ COMMITTED: a
// statement that changes a row waits for whoever changed it before and then looks at the row
// again, so that a claim, a fence or a count in one statement has one winner. What takes more
// than one statement is serialised.
//
// Two that wait for each other are told apart by the server (40P01); one that waits longer
// than lockTimeout, for a process that stands still in the middle, is told so (55P03).
// Whatever it is, nothing was committed.

// The states of PostgreSQL that say that nothing was committed because of another
// transaction (PostgreSQL 15 manual, appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
)

// Of the waiting for other writers.
const (
	// lockTimeout bounds the wait for a row: a batch waits with whoever waits in it. It is longer
	// than a server takes to find a deadlock (deadlock_timeout, 1s), which can be done again.
	lockTimeout = "2s"
	// idleTimeout ends the session of a process that stands still in a transaction, with all
	// that it has locked. Ours do nothing between two statements.
	idleTimeout = "10s"
	// retries is how often what a deadlock ended is done again, at once.
	retries = 5
)

// conflicts reports whether another writer's transaction is why nothing was committed.
func conflicts(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == serializationFailure || e.Code == deadlockDetected || e.Code == lockNotAvailable)
}

// waited reports whether it waited in vain: to do it again at once would be to wait again.
func waited(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == lockNotAvailable
}

// serial names what is done by one transaction at a time.
type serial int32

const (
	decisionsOfCard serial = iota + 1
	passcodesOfCard
	filesOfTenant
	registrationOfDevice
)

// serialise waits until no other transaction does the same for the same key, until this one
// ends. What it reads from then on is what those before it have committed. With one writer
// there is nobody to wait for.
func (t tx) serialise(ctx context.Context, what serial, key ...any) error {
	if t.dialect.serialise == "" {
		return nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", key))
	_, err := t.ExecContext(ctx, t.dialect.serialise, int32(what), int32(binary.BigEndian.Uint32(sum[:])))
	return failed("wait for other writers", err)
}

// inOrder gives a batch in an order that all writers have in common, by the rows that many
// requests share: two that lock them in one order do not wait for each other. Where there is
// one writer it stays as it came.
func (s *Store) inOrder(batch []*audit.Append) []*audit.Append {
	if s.claim == nil || len(batch) < 2 {
		return batch
	}
	rows := make(map[*audit.Append]string, len(batch))
	for _, a := range batch {
		rows[a] = shared(a.Changes)
	}
	return slices.SortedStableFunc(slices.Values(batch), func(a, b *audit.Append) int { return cmp.Compare(rows[a], rows[b]) })
}

// shared names the row that changes have in common with those of other requests; empty if
// there is none.
func shared(changes []record.Change) string {
	for _, c := range changes {
		switch c := c.(type) {
		case merchant.QuotaUse:
			return fmt.Sprintf("quota %q", c.Client)
		case provisioning.Decision:
			return fmt.Sprintf("card %q %x", c.Owner.Tenant, c.Card)
		case provisioning.PasscodeRow:
			return fmt.Sprintf("card %q %x", c.Owner.Tenant, c.Card)
		case passes.AssetPut:
			return fmt.Sprintf("files %q", c.Tenant)
		case passes.TypePut:
			return fmt.Sprintf("type %q %q", c.Row.Tenant, c.Row.Type)
		case passes.PassPut:
			return fmt.Sprintf("type %q %q", c.Row.Tenant, c.Row.Type)
		case passes.PersonalEnd:
			return fmt.Sprintf("type %q %q", c.Claim.Pass.Tenant, c.Claim.Pass.Type)
		}
	}
	return ""
}
