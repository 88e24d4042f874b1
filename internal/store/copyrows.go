package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// uniqueViolation is the SQLSTATE of a row whose key is there.
const uniqueViolation = "23505"

// A batch ends with this many rows, or after the row with which it has this many bytes.
const (
	batchRows  = 2000
	batchBytes = 8 << 20
)

// cell gives what a driver read as what the column is: nil, int64, string or []byte. What
// PostgreSQL cannot hold is an error, which does not repeat it.
func (c column) cell(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case int64:
		if c.is == isInteger {
			return v, nil
		}
	case int32:
		if c.is == isInteger {
			return int64(v), nil
		}
	case string:
		return c.chars([]byte(v))
	case []byte:
		return c.chars(v)
	}
	return nil, fmt.Errorf("column %s holds a cell of another type", c.name)
}

func (c column) chars(b []byte) (any, error) {
	switch {
	case c.is == isBytes:
		return b, nil
	case c.is == isText && utf8.Valid(b) && bytes.IndexByte(b, 0) < 0:
		return string(b), nil
	}
	return nil, fmt.Errorf("column %s holds a cell that is no number or no text in UTF-8", c.name)
}

// cells gives a row of a driver as what its columns are, and how many bytes it has.
func cells(columns []column, row []any) (all []any, size int, err error) {
	for i, c := range columns {
		v, err := c.cell(row[i])
		if err != nil {
			return nil, 0, err
		}
		all, size = append(all, v), size+cellSize(v)
	}
	return all, size, nil
}

func cellSize(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

// copyRows copies what is not copied yet of a table.
func (c *copier) copyRows(ctx context.Context, t table) error {
	of, err := c.count(ctx, t)
	if err != nil {
		return err
	}
	at, err := c.position(ctx, t)
	if err != nil {
		return err
	}
	for {
		c.progress("copy", t.name, at.Rows, of)
		batch, err := c.batch(ctx, t, at.Key)
		if err != nil || len(batch) == 0 {
			return err
		}
		at.Rows += uint64(len(batch))
		at.Key = t.keyOf(batch[len(batch)-1])
		if err := c.put(ctx, t, batch, at); err != nil {
			return err
		}
	}
}

// batch reads the rows that follow a key; those from the beginning for none.
func (c *copier) batch(ctx context.Context, t table, after []keyCell) (batch [][]any, err error) {
	text := `SELECT ` + list(t.columns) + ` FROM ` + t.quoted()
	var args []any
	if after != nil {
		var places []string
		for i, k := range after {
			places = append(places, fmt.Sprintf("?%d", i+1))
			args = append(args, k.value())
		}
		text += ` WHERE (` + list(t.key) + `) > (` + strings.Join(places, ", ") + `)`
	}
	rows, err := c.source.QueryContext(ctx, fmt.Sprintf(`%s ORDER BY %s LIMIT %d`, text, list(t.key), batchRows), args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	read := newRow(len(t.columns))
	for size := 0; size < batchBytes && rows.Next(); {
		if err := rows.Scan(read.into...); err != nil {
			return nil, err
		}
		row, n, err := cells(t.columns, read.values)
		if err != nil {
			return nil, err
		}
		batch, size = append(batch, row), size+n
	}
	return batch, rows.Err()
}

// scanned is a row that a driver reads into.
type scanned struct{ values, into []any }

func newRow(columns int) scanned {
	s := scanned{make([]any, columns), make([]any, columns)}
	for i := range s.values {
		s.into[i] = &s.values[i]
	}
	return s
}

// put writes a batch, and how far the table is with it.
func (c *copier) put(ctx context.Context, t table, batch [][]any, at position) error {
	var names []string
	for _, col := range t.columns {
		names = append(names, col.name)
	}
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c.target, func(tx pgx.Tx) error {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, names, pgx.CopyFromRows(batch)); err != nil {
			return batchError(err)
		}
		return setPosition(ctx, tx, t.name, string(text))
	})
}

// batchError says why a batch was not written, without the server's text, which may quote
// what is in it.
func batchError(err error) error {
	var refused *pgconn.PgError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Code == uniqueViolation:
		return fmt.Errorf("%w: constraint %s finds other rows there", ErrNotEmpty, refused.ConstraintName)
	}
	return fmt.Errorf("the server refuses a batch: SQLSTATE %s %s", refused.Code, refused.ConstraintName)
}

// position is how far a table is: the key of the last row that was copied, and how many were.
type position struct {
	Key  []keyCell `json:"key"`
	Rows uint64    `json:"rows"`
}

// keyCell is a cell of a key; one of them is set.
type keyCell struct {
	Integer *int64  `json:"i,omitempty"`
	Text    *string `json:"t,omitempty"`
	Bytes   *[]byte `json:"b,omitempty"`
}

func (k keyCell) value() any {
	switch {
	case k.Integer != nil:
		return *k.Integer
	case k.Text != nil:
		return *k.Text
	case k.Bytes != nil:
		return *k.Bytes
	}
	return nil
}

// keyOf gives the key of a row.
func (t table) keyOf(row []any) []keyCell {
	key := make([]keyCell, len(t.key))
	for i, k := range t.key {
		for j, c := range t.columns {
			if c != k {
				continue
			}
			switch v := row[j].(type) {
			case int64:
				key[i].Integer = &v
			case string:
				key[i].Text = &v
			case []byte:
				key[i].Bytes = &v
			}
		}
	}
	return key
}

// position reads how far a table is.
func (c *copier) position(ctx context.Context, t table) (at position, err error) {
	var text string
	err = c.target.QueryRow(ctx, `SELECT position FROM `+copyTable+` WHERE part = $1`, t.name).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	return at, json.Unmarshal([]byte(text), &at)
}

func setPosition(ctx context.Context, tx pgx.Tx, part, position string) error {
	_, err := tx.Exec(ctx, `INSERT INTO `+copyTable+` (part, position) VALUES ($1, $2)
		ON CONFLICT (part) DO UPDATE SET position = excluded.position`, part, position)
	return err
}

// tableHash is the digest of a table: SHA-256 over its name, the names of its columns, and
// its rows in the order of the key, texts by their bytes. Each part stands behind what it is
// and its length as eight bytes.
type tableHash struct {
	t    table
	sum  hash.Hash
	rows uint64
}

func newTableHash(t table) *tableHash {
	h := &tableHash{t: t, sum: sha256.New()}
	h.part('n', []byte(t.name))
	for _, c := range t.columns {
		h.part('c', []byte(c.name))
	}
	return h
}

func (h *tableHash) part(is byte, b []byte) {
	head := binary.BigEndian.AppendUint64([]byte{is}, uint64(len(b)))
	h.sum.Write(head)
	h.sum.Write(b)
}

// add adds a row as a driver read it.
func (h *tableHash) add(row []any) error {
	all, _, err := cells(h.t.columns, row)
	if err != nil {
		return err
	}
	for _, v := range all {
		switch v := v.(type) {
		case int64:
			h.part(byte(isInteger), binary.BigEndian.AppendUint64(nil, uint64(v)))
		case string:
			h.part(byte(isText), []byte(v))
		case []byte:
			h.part(byte(isBytes), v)
		default:
			h.part('0', nil)
		}
	}
	h.rows++
	return nil
}

func (h *tableHash) done() CopiedTable {
	return CopiedTable{Name: h.t.name, Rows: h.rows, SHA256: hex.EncodeToString(h.sum.Sum(nil))}
}

// told is after how many rows progress is told.
const told = 10_000

// sourceDigest reads a table of a SQLite database.
func sourceDigest(ctx context.Context, p pool, t table, progress func(done uint64)) (CopiedTable, error) {
	h := newTableHash(t)
	rows, err := p.QueryContext(ctx, `SELECT `+list(t.columns)+` FROM `+t.quoted()+` ORDER BY `+list(t.key))
	if err != nil {
		return CopiedTable{}, err
	}
	defer func() { _ = rows.Close() }()
	read := newRow(len(t.columns))
	for rows.Next() {
		if err := rows.Scan(read.into...); err != nil {
			return CopiedTable{}, err
		}
		if err := h.add(read.values); err != nil {
			return CopiedTable{}, err
		}
		if h.rows%told == 0 {
			progress(h.rows)
		}
	}
	return h.done(), rows.Err()
}

// asked is a connection of pgx, or a transaction, that is asked for rows.
type asked interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// targetDigest reads a table of a PostgreSQL database.
func targetDigest(ctx context.Context, q asked, t table, progress func(done uint64)) (CopiedTable, error) {
	var order []string
	for _, k := range t.key {
		by := quote(k.name)
		if k.is == isText {
			by += ` COLLATE "C"` // as SQLite orders them
		}
		order = append(order, by)
	}
	h := newTableHash(t)
	rows, err := q.Query(ctx, `SELECT `+list(t.columns)+` FROM `+t.quoted()+` ORDER BY `+strings.Join(order, ", "))
	if err != nil {
		return CopiedTable{}, err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := rows.Values()
		if err == nil {
			err = h.add(row)
		}
		if err != nil {
			return CopiedTable{}, err
		}
		if h.rows%told == 0 {
			progress(h.rows)
		}
	}
	return h.done(), rows.Err()
}
