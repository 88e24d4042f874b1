package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/store"
)

// sqlBlock is SQL as a document shows it.
var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// The tables in parts that docs/partitioning.md makes are to the service what they were: logs go
// on from part to part, and what is unique stays so over all of them.
func TestTablesInPartsAreAsBefore(t *testing.T) {
	t.Parallel()       // much of it is waiting
	c := newCluster(t) // logs 1 and 2
	for i, s := range c.two {
		for range 5 + i {
			mustAppend(t, s)
		}
	}
	mustAppend(t, c.two[0], newClaim("before", noon, time.Minute))
	for _, s := range c.two {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "partitioning.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := sqlBlock.FindAllStringSubmatch(string(page), -1)
	same(t, 2, len(blocks))
	for _, block := range blocks {
		execute(t, c.db, strings.NewReplacer(":= 100000000;", ":= 4;", ":= 20; ", ":= 2; ").Replace(block[1]))
	}

	a, b := replica(t, c.dsn, "a"), replica(t, c.dsn, "b")
	for _, s := range []*opened{a, b} {
		for range 7 {
			mustAppend(t, s)
		}
	}
	requireTree(t, a, 5+1+7)
	requireTree(t, b, 6+7)
	same(t, "audit_entries_1_2 4, audit_entries_1_3 1, audit_entries_2_2 4, audit_entries_2_3 1, audit_entries_rest 16",
		c.rows(`SELECT tableoid::regclass || ' ' || COUNT(*) FROM audit_entries GROUP BY tableoid ORDER BY tableoid::regclass::text`))
	for _, part := range []string{"audit_entries_1_2", "audit_entries_rest"} {
		if _, err := c.db.Exec(`INSERT INTO audit_entries SELECT * FROM ` + part + ` LIMIT 1`); err == nil || !strings.Contains(err.Error(), "23505") {
			t.Errorf("a number of %s is taken a second time: %v", part, err)
		}
	}
	if all, err := a.Logs(t.Context()); err != nil || len(all) != 3 {
		t.Errorf("logs %+v, %v", all, err)
	}
	if err := appendTo(b, newClaim("before", noon, time.Minute)); !errors.Is(err, provisioning.ErrNonceUsed) {
		t.Errorf("a nonce that was claimed before is given again: %v", err)
	}
	patient(t, a)
	patient(t, b)
	both := &cluster{T: t, dsn: c.dsn, db: c.db, two: [2]*opened{a, b}}
	same(t, 1, both.race(is(provisioning.ErrNonceUsed), func(s *opened, _ int) error { return appendTo(s, newClaim("after", noon, time.Minute)) }))
	if schema, err := store.SchemaOfPostgres(t.Context(), c.dsn, environment); err != nil || schema.Fit() != nil {
		t.Errorf("the schema does not fit: %v, %v", err, schema.Fit())
	}
}
