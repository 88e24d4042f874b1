package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Cells gives every cell of every table, for whoever looks for what may not be there. A failure
// names the table.
func (s *Store) Cells(ctx context.Context, visit func(table, column string, value []byte) error) error {
	tables, err := s.read.tableNames(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := s.cells(ctx, t, visit); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	return nil
}

func (p pool) tableNames(ctx context.Context) ([]string, error) {
	rows, err := p.QueryContext(ctx, p.dialect.allTables)
	if err != nil {
		return nil, failed("list tables", err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, failed("list tables", err)
		}
		all = append(all, name)
	}
	return all, failed("list tables", rows.Err())
}

// cells reads one table, whose name is the database's own.
func (s *Store) cells(ctx context.Context, table string, visit func(table, column string, value []byte) error) error {
	rows, err := s.read.QueryContext(ctx, `SELECT * FROM "`+strings.ReplaceAll(table, `"`, `""`)+`"`)
	if err != nil {
		return failed("read all of it", err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return failed("read all of it", err)
	}
	values, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return failed("read all of it", err)
		}
		for i, column := range columns {
			if err := visit(table, column, values[i]); err != nil {
				return err
			}
		}
	}
	return failed("read all of it", rows.Err())
}
