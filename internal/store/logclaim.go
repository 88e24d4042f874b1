package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/mintmark/mintmark/internal/audit"
)

// logLock is the advisory lock of log 0: "mintmark" in ASCII. Log n has n more.
const logLock int64 = 0x6d696e746d61726b

// claimLock is held by who chooses a log.
const claimLock = logLock - 2

func (n logNumber) lock() int64 { return logLock + int64(n) }

// logClaim is a process's claim to one log of a PostgreSQL database: the advisory lock of the
// log, held by the session that writes. Whoever writes has it on the very connection that he
// writes with, so that two processes never write one log: not after a lost connection, when
// the server has given the lock back, not when the process was stopped for a while, and not
// with another server in the place of the first.
type logClaim struct {
	name string // of the log that is wanted; empty for any that has none
	// least is how many entries the log has at least: as many as were committed, or found.
	least atomic.Uint64

	mu     sync.Mutex // guards all below
	taken  bool
	number logNumber // once it is taken
	lost   error     // why the last connection did not get the log again; nil if it did
}

// How long a lock is waited for: a server takes a moment to notice that the connection before
// was closed.
const (
	lockWithin = 2 * time.Second
	lockEvery  = 50 * time.Millisecond
)

// take takes the log for a new connection: the first time one that is free, from then on the
// same. Before it makes a new one it waits a little, for one whose process has just ended.
func (l *logClaim) take(ctx context.Context, c *pgx.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	patience, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		over := patience.Err() != nil
		err := l.try(ctx, c, over)
		if !errors.Is(err, ErrTaken) || over {
			l.lost = err
			return err
		}
		select {
		case <-tick.C:
		case <-patience.Done():
		}
	}
}

// closeWithin bounds the good-bye to a server: one that is busy answers, one that is gone is not
// waited for.
const closeWithin = 5 * time.Second

// onConnect has something done on each new connection. One on which it fails is closed, with
// the locks that it may have by then: nobody else sees it, to close it.
func onConnect(do func(context.Context, *pgx.Conn) error) stdlib.OptionOpenDB {
	return stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		err := do(ctx, c)
		if err != nil {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
			defer cancel()
			_ = c.Close(ending)
		}
		return err
	})
}

// closeWriting closes the connection that writes, and gives its log back first: the server
// gives it back too, but only when it notices that the connection has ended, and until then it
// would seem that somebody writes the log.
func (s *Store) closeWriting() error {
	if s.claim == nil || s.claim.held() != nil {
		return s.write.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	c, err := s.write.Conn(ctx) // kept, so that nobody writes behind this
	if err != nil {
		return s.write.Close()
	}
	_, _ = c.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", s.number.lock())
	return errors.Join(s.write.Close(), c.Close())
}

// held is nil while the log is this process's, as far as the last connection knew.
func (l *logClaim) held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *logClaim) try(ctx context.Context, c *pgx.Conn, anew bool) error {
	if !l.taken {
		return l.choose(ctx, c, anew)
	}
	if err := takeLog(ctx, c, l.number); err != nil {
		return err
	}
	return l.whole(ctx, c)
}

// atLeast notes how many entries there are.
func (l *logClaim) atLeast(entries uint64) {
	for was := l.least.Load(); was < entries && !l.least.CompareAndSwap(was, entries); was = l.least.Load() {
	}
}

// whole is nil if a log that was taken again has the last entry that is known of it. Another
// server in the place of the first may be behind it: what is written there would stand behind
// a gap.
func (l *logClaim) whole(ctx context.Context, c *pgx.Conn) error {
	least := l.least.Load()
	if least == 0 {
		return nil
	}
	var there bool
	err := c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM audit_entries WHERE seq = $1)", l.number.place(least-1)).Scan(&there)
	if err == nil && !there {
		return fmt.Errorf("%w: entry %d is missing", audit.ErrChanged, least-1)
	}
	return err
}

// takeLog takes a log's lock, or gives ErrTaken.
func takeLog(ctx context.Context, c querier, n logNumber) error {
	var taken bool
	err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", n.lock()).Scan(&taken)
	if err == nil && !taken {
		return fmt.Errorf("log %d: %w", n, ErrTaken)
	}
	return err
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// choose takes one of the logs that there are or, if it may, a new one. One process chooses at
// a time. A crash in the middle leaves nothing: the session's lock ends with it.
func (l *logClaim) choose(ctx context.Context, c *pgx.Conn, anew bool) error {
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // no effect after a commit
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", claimLock); err != nil {
		return err
	}
	wanted, next, err := l.candidates(ctx, tx)
	if err != nil {
		return err
	}
	for _, n := range wanted {
		err := takeLog(ctx, tx, n)
		if errors.Is(err, ErrTaken) {
			continue
		}
		if err == nil {
			err = tx.Commit(ctx)
		}
		l.number, l.taken = n, err == nil
		return err
	}
	switch {
	case len(wanted) != 0 && l.name != "":
		return fmt.Errorf("log %s: %w", l.name, ErrTaken)
	case len(wanted) != 0 && !anew:
		return ErrTaken
	case next >= maxLogs:
		return fmt.Errorf("all %d logs that a database may have: %w", maxLogs, ErrTaken)
	}
	if err := takeLog(ctx, tx, next); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO audit_logs (number, name, origin, created_at) VALUES ($1, $2, '', $3)", int64(next), l.name, millis(time.Now()))
	if err == nil {
		err = tx.Commit(ctx)
	}
	l.number, l.taken = next, err == nil
	return err
}

// candidates gives the logs of the wanted name, the oldest first, and the number that a new
// one has.
func (l *logClaim) candidates(ctx context.Context, tx pgx.Tx) (wanted []logNumber, next logNumber, err error) {
	rows, err := tx.Query(ctx, "SELECT number, name FROM audit_logs ORDER BY number")
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var name string
		if err := rows.Scan(&number, &name); err != nil {
			return nil, 0, err
		}
		if next = logNumber(number) + 1; name == l.name {
			wanted = append(wanted, logNumber(number))
		}
	}
	return wanted, next, rows.Err()
}
