package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// table is a table as a copy sees it.
type table struct {
	name    string
	columns []column // in the order of their names
	key     []column // of the primary key, in its order
}

// column is a column as a copy sees it.
type column struct {
	name string
	is   cellType
}

// cellType is what all cells of a column are, unless they are NULL.
type cellType byte

// Every column of the schema is of one of these types; a copy knows no others.
const (
	isInteger cellType = 'i'
	isText    cellType = 't'
	isBytes   cellType = 'b'
)

// cellTypes are the types of columns by the names that the schema and PostgreSQL give them.
var cellTypes = map[string]cellType{"BIGINT": isInteger, "INTEGER": isInteger, "TEXT": isText, "BYTEA": isBytes}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (t table) quoted() string { return quote(t.name) }

// list gives columns as a query lists them.
func list(columns []column) string {
	var names []string
	for _, c := range columns {
		names = append(names, quote(c.name))
	}
	return strings.Join(names, ", ")
}

// add adds a column as it is declared; pk is its place in the primary key from 1, or 0.
func (t *table) add(name, declared string, pk int) error {
	is, known := cellTypes[strings.ToUpper(declared)]
	if !known {
		return fmt.Errorf("%w: column %s of table %s is of type %s, which a copy does not know", ErrShape, name, t.name, declared)
	}
	c := column{name, is}
	t.columns = append(t.columns, c)
	if pk > 0 {
		for len(t.key) < pk {
			t.key = append(t.key, column{})
		}
		t.key[pk-1] = c
	}
	return nil
}

// notCopied are the tables that are not part of what a database holds: what each engine and
// each side of a copy notes for itself. Which steps were taken is the same on both sides.
func notCopied(name string) bool {
	return name == versions || name == copyTable || strings.HasPrefix(name, "sqlite_")
}

// sourceTables gives the tables of a SQLite database.
func sourceTables(ctx context.Context, p pool) ([]table, error) {
	names, err := p.tableNames(ctx)
	if err != nil {
		return nil, err
	}
	var all []table
	for _, name := range names {
		if notCopied(name) {
			continue
		}
		t := table{name: name}
		if err := t.readSource(ctx, p); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (t *table) readSource(ctx context.Context, p pool) error {
	rows, err := p.QueryContext(ctx, `SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY name`, t.name)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, declared string
		var pk int
		if err := rows.Scan(&name, &declared, &pk); err != nil {
			return err
		}
		if err := t.add(name, declared, pk); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(t.key) == 0 {
		return fmt.Errorf("%w: table %s has no primary key, by which its rows could be copied in order", ErrShape, t.name)
	}
	return nil
}

// targetColumns are the columns of all tables of a PostgreSQL database; partitions are no
// tables of their own here.
const targetColumns = `SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
	ORDER BY c.relname, a.attname COLLATE "C"`

// fitTarget refuses a PostgreSQL database that has not the same tables, with the same
// columns: none is left out, and none stays empty unseen.
func fitTarget(ctx context.Context, c *pgx.Conn, source []table) error {
	target, err := targetTables(ctx, c)
	if err != nil {
		return err
	}
	for _, t := range source {
		have, there := target[t.name]
		delete(target, t.name)
		switch {
		case !there:
			return fmt.Errorf("%w: the target has no table %s", ErrShape, t.name)
		case !slices.Equal(have.columns, t.columns):
			return fmt.Errorf("%w: table %s has the columns %s in the source, and %s in the target", ErrShape, t.name, list(t.columns), list(have.columns))
		}
	}
	for name := range target {
		return fmt.Errorf("%w: the source has no table %s", ErrShape, name)
	}
	return nil
}

func targetTables(ctx context.Context, c *pgx.Conn) (map[string]*table, error) {
	rows, err := c.Query(ctx, targetColumns)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]*table{}
	for rows.Next() {
		var name, column, declared string
		if err := rows.Scan(&name, &column, &declared); err != nil {
			return nil, err
		}
		if notCopied(name) {
			continue
		}
		if all[name] == nil {
			all[name] = &table{name: name}
		}
		if err := all[name].add(column, declared, 0); err != nil {
			return nil, err
		}
	}
	return all, rows.Err()
}

// setSequences sets those that numbers of a table's columns come from behind the largest.
func setSequences(ctx context.Context, tx pgx.Tx, t table) error {
	for _, c := range t.columns {
		var sequence *string
		if err := tx.QueryRow(ctx, `SELECT pg_get_serial_sequence($1, $2)`, t.quoted(), c.name).Scan(&sequence); err != nil {
			return err
		}
		if sequence == nil {
			continue
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`SELECT setval($1::regclass, COALESCE(MAX(%[1]s), 1), MAX(%[1]s) IS NOT NULL) FROM %[2]s`, quote(c.name), t.quoted()), *sequence)
		if err != nil {
			return err
		}
	}
	return nil
}
