//go:build bench || benchlog || cost

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// durablePostgres gives a new database on a PostgreSQL of the test's own that is durable, as it
// comes; file holds the connection string, as a configuration names it.
func durablePostgres(t *testing.T) (dsn, file string) {
	t.Helper()
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if dsn, err = server.NewDatabase(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(dsn), 0o600); err != nil {
		t.Fatal(err)
	}
	return dsn, file
}
