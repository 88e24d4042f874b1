package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
)

// Log is one log of a database, to be read.
type Log struct {
	from   pool
	number logNumber
}

var _ audit.Source = Log{}

// Log gives the log of a number; nothing is in one that there is not.
func (s *Store) Log(number int) Log { return Log{s.read, logNumber(number)} }

// own is the log that this process writes.
func (s *Store) own() Log { return Log{s.read, s.number} }

// Size is the number of entries.
func (l Log) Size(ctx context.Context) (uint64, error) {
	var last int64
	err := l.from.QueryRowContext(ctx, `SELECT seq FROM audit_entries WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq DESC LIMIT 1`,
		l.number.first(), l.number.last()).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return l.number.seq(last) + 1, failed("read the log", err)
}

// TreeAt gives the tree of the first entries, by the stored hashes.
func (l Log) TreeAt(ctx context.Context, size uint64) (*audit.Tree, error) {
	peaks, err := l.ReadHashes(ctx, audit.PeakIndexes(size))
	if err != nil {
		return nil, err
	}
	return audit.NewTree(size, peaks), nil
}

// ReadHashes gives stored hashes of the tree, by tlog's numbering.
func (l Log) ReadHashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error) {
	all := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		seq, at := audit.StoredAt(index)
		var b []byte
		err := l.from.QueryRowContext(ctx, `SELECT hashes FROM audit_entries WHERE seq = ?1`, l.number.place(seq)).Scan(&b)
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
func (l Log) Rows(ctx context.Context, from uint64, limit int) ([]audit.Row, error) {
	rows, err := l.from.QueryContext(ctx, `SELECT `+entryColumns+` FROM audit_entries
		WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq LIMIT ?3`, l.number.place(from), l.number.last(), limit)
	if err != nil {
		return nil, failed("read the log", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.Row
	for rows.Next() {
		r, err := l.scanRow(rows)
		if err != nil {
			return nil, failed("read the log", err)
		}
		all = append(all, r)
	}
	return all, failed("read the log", rows.Err())
}

func (l Log) scanRow(rows *sql.Rows) (audit.Row, error) {
	var r audit.Row
	var place, at int64
	var body, digest, hashes sql.RawBytes
	if err := rows.Scan(&place, &at, &r.Kind, &r.Ticket, &r.Tenant, &body, &digest, &hashes); err != nil {
		return r, err
	}
	r.Seq = l.number.seq(place)
	r.At = time.UnixMilli(at).UTC()
	if len(body) != 0 { // an expired body leaves an empty text
		r.Body = bytes.Clone(body)
	}
	copy(r.BodySHA256[:], digest)
	r.Hashes = splitHashes(hashes)
	return r, nil
}

// LastCheckpoint gives the largest checkpoint; false if there is none.
func (l Log) LastCheckpoint(ctx context.Context) (audit.Checkpoint, bool, error) {
	all, err := l.checkpoints(ctx, `SELECT size, root, at, spki, note FROM audit_checkpoints
		WHERE size BETWEEN ?1 AND ?2 ORDER BY size DESC LIMIT 1`, l.number.first(), l.number.last())
	if err != nil || len(all) == 0 {
		return audit.Checkpoint{}, false, err
	}
	return all[0], true, nil
}

// Checkpoints gives checkpoints of at least a size, at most limit, in order.
func (l Log) Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	return l.checkpoints(ctx, `SELECT size, root, at, spki, note FROM audit_checkpoints
		WHERE size BETWEEN ?1 AND ?2 ORDER BY size LIMIT ?3`, l.number.place(from), l.number.last(), limit)
}

func (l Log) checkpoints(ctx context.Context, query string, args ...any) ([]audit.Checkpoint, error) {
	rows, err := l.from.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed("read checkpoints", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.Checkpoint
	for rows.Next() {
		c, err := l.scanCheckpoint(rows)
		if err != nil {
			return nil, failed("read checkpoints", err)
		}
		all = append(all, c)
	}
	return all, failed("read checkpoints", rows.Err())
}

// scanCheckpoint reads a checkpoint. Its origin stands in its note alone; a note that
// cannot be read has none, and does not verify.
func (l Log) scanCheckpoint(rows *sql.Rows) (audit.Checkpoint, error) {
	var c audit.Checkpoint
	var root []byte
	var place, at int64
	if err := rows.Scan(&place, &root, &at, &c.SPKI, &c.Note); err != nil {
		return c, err
	}
	c.Size = l.number.seq(place)
	if len(root) == tlog.HashSize {
		c.Root = tlog.Hash(root)
	}
	c.At = time.UnixMilli(at).UTC()
	if said, err := audit.ParseCheckpoint(c.Note); err == nil {
		c.Origin = said.Origin
	}
	return c, nil
}

// Size is the number of entries in the log that this process writes; of a database that is
// only read, in log 0. So is what follows.
func (s *Store) Size(ctx context.Context) (uint64, error) { return s.own().Size(ctx) }

// TreeAt is Log.TreeAt.
func (s *Store) TreeAt(ctx context.Context, size uint64) (*audit.Tree, error) {
	return s.own().TreeAt(ctx, size)
}

// ReadHashes is Log.ReadHashes.
func (s *Store) ReadHashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error) {
	return s.own().ReadHashes(ctx, indexes)
}

// Rows is Log.Rows.
func (s *Store) Rows(ctx context.Context, from uint64, limit int) ([]audit.Row, error) {
	return s.own().Rows(ctx, from, limit)
}

// LastCheckpoint is Log.LastCheckpoint.
func (s *Store) LastCheckpoint(ctx context.Context) (audit.Checkpoint, bool, error) {
	return s.own().LastCheckpoint(ctx)
}

// Checkpoints is Log.Checkpoints.
func (s *Store) Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	return s.own().Checkpoints(ctx, from, limit)
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
