package store

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"

	"github.com/mintmark/mintmark/internal/audit"
)

var _ audit.Logs = (*Store)(nil)

// LogAt is Log, for whoever knows nothing of a Store.
func (s *Store) LogAt(number int) audit.Source { return s.Log(number) }

// LastOf gives the largest checkpoint of a log; false if there is none.
func (s *Store) LastOf(ctx context.Context, number int) (audit.Checkpoint, bool, error) {
	return s.Log(number).LastCheckpoint(ctx)
}

// OwnLog gives the log that this process writes.
func (s *Store) OwnLog(ctx context.Context) (audit.LogInfo, error) {
	all, err := s.listed(ctx)
	if err != nil {
		return audit.LogInfo{}, err
	}
	i := slices.IndexFunc(all, func(l audit.LogInfo) bool { return l.Number == int(s.number) })
	if i < 0 {
		return audit.LogInfo{}, failed("find the log", errors.New("it is not listed"))
	}
	return all[i], nil
}

// Logs gives the database's logs in order of their numbers: those that are listed, and those
// of which there are entries or checkpoints although they are not. A database that is only
// read may be of a time when there was one.
func (s *Store) Logs(ctx context.Context) ([]audit.LogInfo, error) {
	there, err := s.hasTable(ctx, "audit_logs")
	if err != nil {
		return nil, err
	}
	if !there {
		return []audit.LogInfo{{}}, nil
	}
	all, err := s.listed(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.noteIdle(ctx, all); err != nil {
		return nil, err
	}
	for _, column := range []string{`SELECT MIN(seq) FROM audit_entries WHERE seq >= ?1`, `SELECT MIN(size) FROM audit_checkpoints WHERE size >= ?1`} {
		found, err := s.numbersIn(ctx, column)
		if err != nil {
			return nil, err
		}
		for _, n := range found {
			if !slices.ContainsFunc(all, func(l audit.LogInfo) bool { return l.Number == n }) {
				all = append(all, audit.LogInfo{Number: n, Unlisted: true})
			}
		}
	}
	slices.SortFunc(all, func(a, b audit.LogInfo) int { return a.Number - b.Number })
	return all, nil
}

func (s *Store) listed(ctx context.Context) ([]audit.LogInfo, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT number, name, origin, created_at FROM audit_logs ORDER BY number`)
	if err != nil {
		return nil, failed("list logs", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.LogInfo
	for rows.Next() {
		var l audit.LogInfo
		var created int64
		if err := rows.Scan(&l.Number, &l.Name, &l.Origin, &created); err != nil {
			return nil, failed("list logs", err)
		}
		l.Created = timeOrZero(created)
		all = append(all, l)
	}
	return all, failed("list logs", rows.Err())
}

// noteIdle notes which logs nobody has locked.
func (s *Store) noteIdle(ctx context.Context, all []audit.LogInfo) error {
	if s.read.dialect.locked == "" {
		return nil
	}
	for i := range all {
		var holders int
		if err := s.read.QueryRowContext(ctx, s.read.dialect.locked, logNumber(all[i].Number).lock()).Scan(&holders); err != nil {
			return failed("look who writes a log", err)
		}
		all[i].Idle = holders == 0
	}
	return nil
}

// numbersIn gives the logs that a table has rows of, from one log's first row to the next's.
func (s *Store) numbersIn(ctx context.Context, next string) ([]int, error) {
	var all []int
	for from := int64(math.MinInt64); ; {
		var place sql.NullInt64
		if err := s.read.QueryRowContext(ctx, next, from).Scan(&place); err != nil {
			return nil, failed("look for logs", err)
		}
		if !place.Valid {
			return all, nil
		}
		n := logOf(place.Int64)
		all = append(all, int(n))
		if n.last() == math.MaxInt64 {
			return all, nil
		}
		from = n.last() + 1
	}
}
