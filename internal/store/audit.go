package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

var _ audit.Store = (*Store)(nil)

// Commit commits a batch of entries and their changes in one transaction. A batch that
// another writer was in the way of is done again, at once; if that does not help, without
// those appends that are in each other's way, which are refused.
func (s *Store) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	for _, a := range batch {
		a.Refuse(nil)
	}
	for try := 1; ; try++ {
		inTheWay, err := s.commit(ctx, batch, number)
		if inTheWay == nil || ctx.Err() != nil {
			return err
		}
		if try < retries && !waited(err) {
			continue
		}
		batch = slices.DeleteFunc(slices.Clone(batch), func(a *audit.Append) bool {
			out := a == inTheWay || shared(a.Changes) != "" && shared(a.Changes) == shared(inTheWay.Changes)
			if out {
				a.Refuse(err)
			}
			return out
		})
	}
}

// commit is one try. An append that another writer is in the way of comes back with the
// error: nothing was committed then, and number was not asked.
func (s *Store) commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) (inTheWay *audit.Append, err error) {
	if len(batch) == 0 { // all were in each other's way
		return nil, nil
	}
	if s.path != "" {
		// With a context that can end the driver starts a goroutine for each statement, to
		// interrupt SQLite. What takes long is the disk, which cannot be interrupted.
		ctx = context.WithoutCancel(ctx)
	}
	if !slices.ContainsFunc(batch, func(a *audit.Append) bool { return len(a.Changes) > 0 }) {
		return nil, s.commitEntries(ctx, number(batch))
	}
	tx, err := s.write.begin(ctx)
	if err != nil {
		return nil, failed("begin", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	refused := map[*audit.Append]error{}
	for _, a := range s.inOrder(batch) {
		why, err := s.applyAll(ctx, tx, a.Changes, len(batch) > 1)
		if conflicts(err) {
			return a, err
		}
		if err != nil {
			return nil, err
		}
		if why != nil {
			refused[a] = why
		}
	}
	accepted := make([]*audit.Append, 0, len(batch))
	for _, a := range batch {
		if why := refused[a]; why != nil {
			a.Refuse(why)
			continue
		}
		accepted = append(accepted, a)
	}
	if len(accepted) == 0 {
		return nil, nil
	}
	rows := number(accepted)
	if err := insertEntries(ctx, tx, s.number, rows); err != nil {
		return nil, failed("append to the log", err)
	}
	// A crash before this line leaves nothing; after it, everything.
	if err := tx.Commit(); err != nil {
		return nil, failed("commit", err)
	}
	return nil, s.committed(rows[len(rows)-1].Seq + 1)
}

// committed notes how many entries there are, and is nil if they are in the files that were
// opened.
func (s *Store) committed(entries uint64) error {
	if s.claim != nil {
		s.claim.atLeast(entries)
	}
	return s.present()
}

// commitEntries commits entries to which no changes belong: one statement, which is a
// transaction of its own and spares two exchanges with the database. It is sent anew by itself
// only if it was never sent; an error of any other kind leaves its outcome unknown, as one of
// the commit does.
func (s *Store) commitEntries(ctx context.Context, rows []audit.Row) error {
	if err := insertEntries(ctx, s.write, s.number, rows); err != nil {
		return failed("append to the log", err)
	}
	return s.committed(rows[len(rows)-1].Seq + 1)
}

// applyAll makes the changes of one append, or none of them: refused is why not. In a
// transaction of its own nothing but the transaction needs to be undone. What other writers
// of the database are in the way of ends the whole transaction, with all that it has locked.
func (s *Store) applyAll(ctx context.Context, tx tx, changes []record.Change, shared bool) (refused, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	if shared {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
			return nil, failed("begin", err)
		}
	}
	for _, c := range changes {
		if refused = s.apply(ctx, tx, c); refused != nil {
			break
		}
	}
	if conflicts(refused) {
		return nil, refused
	}
	if !shared {
		return refused, nil
	}
	end := "RELEASE SAVEPOINT one"
	if refused != nil {
		end = "ROLLBACK TO SAVEPOINT one"
	}
	_, err = tx.ExecContext(ctx, end)
	return refused, failed("end", err)
}

// apply writes one change of a domain.
func (s *Store) apply(ctx context.Context, tx tx, c record.Change) error {
	switch c := c.(type) {
	case *provisioning.NonceClaim:
		return claimNonce(ctx, tx, c)
	case provisioning.NonceEnd:
		return endNonce(ctx, tx, c)
	case provisioning.CardRow:
		return putCard(ctx, tx, c)
	case provisioning.CardMove:
		return moveCard(ctx, tx, c)
	case provisioning.CardRemoval:
		return removeCard(ctx, tx, c)
	case *provisioning.MessageClaim:
		return claimMessage(ctx, tx, c)
	case provisioning.MessageEnd:
		return endMessage(ctx, tx, c)
	case provisioning.MessageUse:
		return useMessage(ctx, tx, c)
	case provisioning.TokenPut:
		return putToken(ctx, tx, c)
	case provisioning.TokenAttempt:
		return endAttempt(ctx, tx, c)
	case provisioning.EnablementPut:
		return putEnablement(ctx, tx, c)
	case *access.TokenUse:
		return claimToken(ctx, tx, c)
	case access.TokenUseEnd:
		return endToken(ctx, tx, c)
	case passes.AssetPut:
		return putAsset(ctx, tx, c)
	case passes.TypePut:
		return putType(ctx, tx, c)
	case passes.PassPut:
		return putPass(ctx, tx, c)
	case *passes.PersonalClaim:
		return claimPersonal(ctx, tx, c)
	case passes.PersonalEnd:
		return endPersonal(ctx, tx, c)
	case merchant.QuotaUse:
		return countToken(ctx, tx, c)
	case provisioning.Decision:
		return putDecision(ctx, tx, c)
	case provisioning.Notice:
		return putNotice(ctx, tx, c)
	case provisioning.PasscodeRow:
		return putPasscode(ctx, tx, c)
	case *provisioning.PasscodeAttempt:
		return takeAttempt(ctx, tx, c)
	case provisioning.PasscodeVerified:
		return passcodeVerified(ctx, tx, c)
	case audit.Expire:
		return expire(ctx, tx, s.number, c)
	case approval.Proposal:
		return proposeChange(ctx, tx, c)
	case *approval.Claim:
		return claimChange(ctx, tx, c)
	case approval.ClaimEnd:
		return endChange(ctx, tx, c)
	case approval.Rejection:
		return rejectChange(ctx, tx, c)
	default:
		return fmt.Errorf("store does not know how to write %T", c)
	}
}

// entryColumns are the columns of audit_entries.
const entryColumns = "seq, at, kind, ticket, tenant, body, body_sha256, hashes"

// insertEntries writes rows of the log with one statement.
func insertEntries(ctx context.Context, on execer, n logNumber, rows []audit.Row) error {
	const columns = 8
	text := strings.Builder{}
	text.WriteString("INSERT INTO audit_entries (" + entryColumns + ") VALUES ")
	args := make([]any, 0, columns*len(rows))
	for i, r := range rows {
		if i > 0 {
			text.WriteByte(',')
		}
		for j := range columns {
			text.WriteString([]string{",?", "(?"}[b2i(j == 0)])
			text.WriteString(strconv.Itoa(i*columns + j + 1))
		}
		text.WriteByte(')')
		args = append(args, n.place(r.Seq), millis(r.At), string(r.Kind), r.Ticket, r.Tenant, string(r.Body), r.BodySHA256[:], joinHashes(r.Hashes))
	}
	_, err := on.ExecContext(ctx, text.String(), args...)
	return err
}

// execer is a transaction, or the connection that writes, which makes one of the statement.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func joinHashes(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

func splitHashes(b []byte) []tlog.Hash {
	var all []tlog.Hash
	for len(b) >= tlog.HashSize {
		all = append(all, tlog.Hash(b[:tlog.HashSize]))
		b = b[tlog.HashSize:]
	}
	return all
}

// Head gives the tree of what is committed. It asks the connection that writes: a commit
// whose answer was lost is over, one way or the other, when that connection answers, or
// when a new one has the lock of the old. Another connection might look too early.
func (s *Store) Head(ctx context.Context) (*audit.Tree, error) {
	l := Log{s.write, s.number}
	size, err := l.Size(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := l.TreeAt(ctx, size)
	if err == nil {
		err = s.committed(size)
	}
	return tree, err
}
