// Package least is the least that a durable record of something can be, to hold the audit log
// against: a row in SQLite, rows that wait sharing a transaction. It has no tree, no
// checkpoints and nothing that belongs to the rows.
package least

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver
)

// Log commits rows. It is safe for concurrent use.
type Log struct {
	db   *sql.DB
	rows chan row
	done sync.WaitGroup
}

type row struct {
	body string
	hash [32]byte
	err  chan error
}

// Open makes a log in a new file.
func Open(path string) (*Log, error) {
	file := url.URL{Scheme: "file", Path: path, RawQuery: "_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_stmt_cache_size=8"}
	db, err := sql.Open("sqlite3", file.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE entries (seq INTEGER PRIMARY KEY, at BIGINT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL)"); err != nil {
		return nil, errors.Join(fmt.Errorf("make the log: %w", err), db.Close())
	}
	l := &Log{db: db, rows: make(chan row, 1024)}
	l.done.Go(l.run)
	return l, nil
}

// Close closes the log, to which nothing is appended any more.
func (l *Log) Close() error {
	close(l.rows)
	l.done.Wait()
	return l.db.Close()
}

// Append commits a row.
func (l *Log) Append(body string, hash [32]byte) error {
	r := row{body, hash, make(chan error, 1)}
	l.rows <- r
	return <-r.err
}

func (l *Log) run() {
	for first := range l.rows {
		batch := []row{first}
		for len(l.rows) > 0 {
			batch = append(batch, <-l.rows)
		}
		err := l.commit(batch)
		for _, r := range batch {
			r.err <- err
		}
	}
}

func (l *Log) commit(batch []row) error {
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	for _, r := range batch {
		if _, err := tx.Exec("INSERT INTO entries (at, body, hash) VALUES (?, ?, ?)", time.Now().UnixMilli(), r.body, r.hash[:]); err != nil {
			return err
		}
	}
	return tx.Commit()
}
