package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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

// Commit commits a batch of entries and their changes in one transaction.
func (s *Store) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	tx, err := s.write.begin(ctx)
	if err != nil {
		return failed("begin", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	accepted := make([]*audit.Append, 0, len(batch))
	for _, a := range batch {
		refused, err := applyAll(ctx, tx, a.Changes, len(batch) > 1)
		if err != nil {
			return err
		}
		if refused != nil {
			a.Refuse(refused)
			continue
		}
		accepted = append(accepted, a)
	}
	if len(accepted) == 0 {
		return nil
	}
	if err := insertEntries(ctx, tx, number(accepted)); err != nil {
		return failed("append to the log", err)
	}
	// A crash before this line leaves nothing; after it, everything.
	if err := tx.Commit(); err != nil {
		return failed("commit", err)
	}
	return s.present()
}

// applyAll makes the changes of one append, or none of them: refused is why not. In a
// transaction of its own nothing but the transaction needs to be undone.
func applyAll(ctx context.Context, tx tx, changes []record.Change, shared bool) (refused, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	if shared {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
			return nil, failed("begin", err)
		}
	}
	for _, c := range changes {
		if refused = apply(ctx, tx, c); refused != nil {
			break
		}
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
func apply(ctx context.Context, tx tx, c record.Change) error {
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
		return expire(ctx, tx, c)
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
func insertEntries(ctx context.Context, tx tx, rows []audit.Row) error {
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
		args = append(args, r.Seq, millis(r.At), string(r.Kind), r.Ticket, r.Tenant, string(r.Body), r.BodySHA256[:], joinHashes(r.Hashes))
	}
	_, err := tx.ExecContext(ctx, text.String(), args...)
	return err
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
	size, err := sizeOf(ctx, s.write)
	if err != nil {
		return nil, err
	}
	tree, err := treeAt(ctx, s.write, size)
	if err == nil {
		err = s.present()
	}
	return tree, err
}

// TreeAt gives the tree of the first entries, by the stored hashes.
func (s *Store) TreeAt(ctx context.Context, size uint64) (*audit.Tree, error) {
	return treeAt(ctx, s.read, size)
}

func treeAt(ctx context.Context, p pool, size uint64) (*audit.Tree, error) {
	peaks, err := readHashes(ctx, p, audit.PeakIndexes(size))
	if err != nil {
		return nil, err
	}
	return audit.NewTree(size, peaks), nil
}

// ReadHashes gives stored hashes of the tree, by tlog's numbering.
func (s *Store) ReadHashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error) {
	return readHashes(ctx, s.read, indexes)
}

func readHashes(ctx context.Context, p pool, indexes []int64) ([]tlog.Hash, error) {
	all := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		seq, at := audit.StoredAt(index)
		var b []byte
		err := p.QueryRowContext(ctx, `SELECT hashes FROM audit_entries WHERE seq = ?1`, seq).Scan(&b)
		hashes := splitHashes(b)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && at >= len(hashes):
			return nil, fmt.Errorf("entry %d: %w", seq, errors.Join(audit.ErrChanged, err))
		case torn(err) != nil:
			return nil, fmt.Errorf("entry %d: %w", seq, torn(err))
		case err != nil:
			return nil, failed("read the log", err)
		}
		all[i] = hashes[at]
	}
	return all, nil
}

// Rows gives entries with their places in the tree, from sequence number from on, at
// most limit, in order.
func (s *Store) Rows(ctx context.Context, from uint64, limit int) ([]audit.Row, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+entryColumns+` FROM audit_entries
		WHERE seq >= ?1 ORDER BY seq LIMIT ?2`, from, limit)
	if err != nil {
		return nil, failed("read the log", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.Row
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return nil, failed("read the log", err)
		}
		all = append(all, r)
	}
	return all, failed("read the log", rows.Err())
}

func scanRow(rows *sql.Rows) (audit.Row, error) {
	var r audit.Row
	var at int64
	var body, digest, hashes sql.RawBytes
	if err := rows.Scan(&r.Seq, &at, &r.Kind, &r.Ticket, &r.Tenant, &body, &digest, &hashes); err != nil {
		return r, err
	}
	r.At = time.UnixMilli(at).UTC()
	if len(body) != 0 { // an expired body leaves an empty text
		r.Body = bytes.Clone(body)
	}
	copy(r.BodySHA256[:], digest)
	r.Hashes = splitHashes(hashes)
	return r, nil
}

// Read gives entries from sequence number from on, at most limit, in order.
func (s *Store) Read(ctx context.Context, from uint64, limit int) ([]audit.Entry, error) {
	rows, err := s.Rows(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	var all []audit.Entry
	for _, r := range rows {
		all = append(all, r.Entry)
	}
	return all, nil
}
