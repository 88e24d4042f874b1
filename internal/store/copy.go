package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// copyTable is the table, in a database that is copied into, that says how far the copy is.
// While it is there the database is not whole, and nobody serves from it.
const copyTable = "store_copy"

var (
	// ErrCopying is returned for a database that a copy was begun into and not finished.
	ErrCopying = errors.New("a copy into this database is not finished")
	// ErrNotEmpty is returned for a database that cannot be copied into, because it holds
	// something.
	ErrNotEmpty = errors.New("database is not empty")
	// ErrSourceChanged is returned for a database that was written to since a copy of it was
	// begun.
	ErrSourceChanged = errors.New("database has changed since the copy was begun")
	// ErrDiffers is returned if the copy is not what was copied.
	ErrDiffers = errors.New("copy differs")
	// ErrShape is returned for databases whose tables are not the same.
	ErrShape = errors.New("databases have different tables")
)

// checkWhole refuses a database that is half copied.
func (p pool) checkWhole(ctx context.Context) error {
	there, err := p.hasTable(ctx, copyTable)
	if err == nil && there {
		err = ErrCopying
	}
	return err
}

// CopiedTable is a table that is the same on both sides.
type CopiedTable struct {
	Name   string `json:"name"`
	Rows   uint64 `json:"rows"`
	SHA256 string `json:"sha256"` // of its rows in a form of our own, in hex
}

// CopyProgress is told how many rows of a table were copied, or, after all were, compared.
type CopyProgress func(doing, table string, done, of uint64)

// A copier copies one database.
type copier struct {
	source   pool      // SQLite
	target   *pgx.Conn // PostgreSQL; holds the locks of all logs, and so of whoever writes there
	tables   []table
	begun    string // what the source is known by
	progress CopyProgress
}

// Copy copies the SQLite database at path, which nobody has open, into a PostgreSQL database
// that is empty or that an earlier Copy of the same was interrupted in, both of this program's
// schema and the environment. The tables are those that the schema has. Then every table is
// read back from both and compared.
//
//  1. The target is made, and marked as half copied. A crash from here on leaves a database
//     that nobody serves from, and the next Copy goes on in it.
//  2. Rows are copied in the order of their keys, each batch in one transaction with the key
//     that it came to. A crash leaves whole batches.
//  3. Counts and digests are compared: ErrDiffers names the table, and the mark stays.
//  4. The mark goes.
//
// It is refused with ErrTaken while a process has the source open or serves from the target.
// progress may be nil.
func Copy(ctx context.Context, path, dsn, environment string, progress CopyProgress) (all []CopiedTable, err error) {
	if progress == nil {
		progress = func(string, string, uint64, uint64) {}
	}
	c := &copier{progress: progress}
	unlock, err := c.openSource(ctx, path, environment)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	cfg, err := postgresConfig(dsn)
	if err == nil {
		err = c.openTarget(ctx, cfg, environment)
	}
	if err != nil {
		return nil, openError(cfg, err)
	}
	defer func() { err = errors.Join(err, c.closeTarget(ctx)) }()
	if err := c.begin(ctx, environment); err != nil {
		return nil, openError(cfg, err)
	}
	for _, t := range c.tables {
		if err := c.copyRows(ctx, t); err != nil {
			return nil, fmt.Errorf("copy table %s: %w", t.name, err)
		}
	}
	for _, t := range c.tables {
		same, err := c.compare(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("compare table %s: %w", t.name, err)
		}
		all = append(all, same)
	}
	return all, c.end(ctx)
}

// openSource takes the lock of the source, opens it for reading, and learns its tables.
func (c *copier) openSource(ctx context.Context, path, environment string) (unlock func() error, err error) {
	abs, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if abs, err = filepath.Abs(abs); err != nil {
		return nil, err
	}
	unlockFile, err := lockFile(abs + "-writer")
	if err != nil {
		return nil, err
	}
	// Not as a file that is only read: a write-ahead log that a crash left is taken in.
	db, err := sql.Open("sqlite3", sqliteDSN(abs)+"?mode=rw&_query_only=on&_busy_timeout=1000")
	if err != nil {
		return nil, errors.Join(err, unlockFile())
	}
	c.source = pool{db, sqlite}
	unlock = func() error { return errors.Join(db.Close(), unlockFile()) }
	if err := c.readSource(ctx, environment); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// readSource learns the source's tables, and what it can be known by: the log, which every
// process that opens it adds to.
func (c *copier) readSource(ctx context.Context, environment string) error {
	stamped, err := c.source.stamped(ctx, environment)
	if err == nil && !stamped {
		err = errors.New("it has no stamp: it is not a database of ours, or a new one")
	}
	if err != nil {
		return err
	}
	s, err := c.source.schema(ctx)
	if err == nil {
		err = s.Fit()
	}
	if err != nil {
		return err
	}
	var place int64
	var hashes []byte
	err = c.source.QueryRowContext(ctx, `SELECT seq, hashes FROM audit_entries ORDER BY seq DESC LIMIT 1`).Scan(&place, &hashes)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	c.begun = fmt.Sprintf("%d %x", place, sha256.Sum256(hashes))
	c.tables, err = sourceTables(ctx, c.source)
	return err
}

// openTarget makes a new target, connects to it under the lock of whoever writes there, and
// holds its tables against the source's.
func (c *copier) openTarget(ctx context.Context, cfg *pgx.ConnConfig, environment string) error {
	err := settlePostgres(ctx, *cfg, environment, settling{within: lockWithin})
	if err != nil && !errors.Is(err, ErrCopying) { // which is looked at under the lock
		return err
	}
	if c.target, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return err
	}
	for n := logNumber(0); n < maxLogs && err == nil; n++ {
		err = takeLock(ctx, c.target, n.lock(), lockWithin, ErrTaken)
	}
	if err == nil {
		err = fitTarget(ctx, c.target, c.tables)
	}
	if err != nil {
		return errors.Join(err, c.closeTarget(ctx))
	}
	return nil
}

// closeTarget gives the logs back, as closeWriting does, and closes the connection.
func (c *copier) closeTarget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_, _ = c.target.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	return c.target.Close(ctx)
}

// begin marks an empty target as half copied, or makes sure that it is the source's half copy.
func (c *copier) begin(ctx context.Context, environment string) error {
	return pgx.BeginFunc(ctx, c.target, func(tx pgx.Tx) error {
		var resumed bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, copyTable).Scan(&resumed); err != nil {
			return err
		}
		if !resumed {
			return c.mark(ctx, tx, environment)
		}
		var begun string
		if err := tx.QueryRow(ctx, `SELECT position FROM `+copyTable+` WHERE part = ''`).Scan(&begun); err != nil {
			return fmt.Errorf("read how far the copy is: %w", err)
		}
		if begun != c.begun {
			return fmt.Errorf("%w: empty the target, and begin anew", ErrSourceChanged)
		}
		return nil
	})
}

// mark makes sure that the target has what a new database has and no more, takes that away,
// and marks it.
func (c *copier) mark(ctx context.Context, tx pgx.Tx, environment string) error {
	fresh, err := newDigests(ctx, environment)
	if err != nil {
		return fmt.Errorf("make a new database to compare with: %w", err)
	}
	for _, t := range c.tables {
		if err := clearNew(ctx, tx, t, fresh[t.name]); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE `+copyTable+` (part TEXT NOT NULL PRIMARY KEY, position TEXT NOT NULL)`); err != nil {
		return err
	}
	return setPosition(ctx, tx, "", c.begun)
}

// clearNew takes away the rows of a table, if they are those of a new database.
func clearNew(ctx context.Context, tx pgx.Tx, t table, fresh CopiedTable) error {
	var n uint64
	err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT %d) AS counted`, t.quoted(), fresh.Rows+1)).Scan(&n)
	if err != nil || n == 0 && fresh.Rows == 0 {
		return err
	}
	have := CopiedTable{Rows: n}
	if n == fresh.Rows {
		if have, err = targetDigest(ctx, tx, t, func(uint64) {}); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	if have != fresh {
		return fmt.Errorf("%w: table %s holds other rows than a new database's", ErrNotEmpty, t.name)
	}
	_, err = tx.Exec(ctx, `DELETE FROM `+t.quoted())
	return err
}

// newDigests gives the digests of the tables of a database that was just made.
func newDigests(ctx context.Context, environment string) (map[string]CopiedTable, error) {
	db, err := sql.Open("sqlite3", "file::memory:")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	defer func() { _ = db.Close() }()
	p := pool{db, sqlite}
	if err := p.settle(ctx, environment, settling{}); err != nil {
		return nil, err
	}
	tables, err := sourceTables(ctx, p)
	if err != nil {
		return nil, err
	}
	all := map[string]CopiedTable{}
	for _, t := range tables {
		if all[t.name], err = sourceDigest(ctx, p, t, func(uint64) {}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// compare reads a table back from both sides.
func (c *copier) compare(ctx context.Context, t table) (CopiedTable, error) {
	of, err := c.count(ctx, t)
	if err != nil {
		return CopiedTable{}, err
	}
	from, err := sourceDigest(ctx, c.source, t, func(done uint64) { c.progress("compare", t.name, done/2, of) })
	if err != nil {
		return from, err
	}
	to, err := targetDigest(ctx, c.target, t, func(done uint64) { c.progress("compare", t.name, (of+done)/2, of) })
	if err != nil {
		return to, err
	}
	if from != to {
		return to, fmt.Errorf("%w: %d rows with digest %.16s were copied, and %d with %.16s are there", ErrDiffers, from.Rows, from.SHA256, to.Rows, to.SHA256)
	}
	c.progress("compare", t.name, of, of)
	return to, nil
}

func (c *copier) count(ctx context.Context, t table) (n uint64, err error) {
	err = c.source.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t.quoted()).Scan(&n)
	return n, err
}

// end sets the sequences behind what was copied and takes the mark away.
func (c *copier) end(ctx context.Context) error {
	// Or the first queries would be planned as those of empty tables.
	if _, err := c.target.Exec(ctx, `ANALYZE`); err != nil {
		return fmt.Errorf("finish the copy: %w", err)
	}
	err := pgx.BeginFunc(ctx, c.target, func(tx pgx.Tx) error {
		for _, t := range c.tables {
			if err := setSequences(ctx, tx, t); err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
		}
		_, err := tx.Exec(ctx, `DROP TABLE `+copyTable)
		return err
	})
	if err != nil {
		return fmt.Errorf("finish the copy: %w", err)
	}
	return nil
}
