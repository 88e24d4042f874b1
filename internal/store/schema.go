package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// A Step is one step of the schema: a migration.
type Step struct {
	Version int64     `json:"version"`
	Name    string    `json:"name,omitzero"` // none of a step that this program does not know
	Applied time.Time `json:"applied,omitzero"`
}

// Schema says which steps a database has taken, each list in the order of the versions.
type Schema struct {
	Database int64  `json:"database"` // the version: that of the last step taken; 0 of an empty database
	Program  int64  `json:"program"`  // the version that this program knows
	Applied  []Step `json:"applied"`
	Pending  []Step `json:"pending"` // this program's, not taken yet
	Unknown  []Step `json:"unknown"` // taken, and not this program's
}

var (
	// ErrNewer is returned for a database that has taken steps which this program does not
	// know: a later version of it made them, and what it would write may be wrong there.
	ErrNewer = errors.New("database is newer than this program")
	// ErrOlder is returned for a database that others may be serving from, and that has not
	// taken all steps that this program knows: who runs it decides when it takes them.
	ErrOlder = errors.New("database is older than this program")
)

// Fit is nil for a schema that is this program's, and ErrNewer or ErrOlder with both versions
// for any other.
func (s Schema) Fit() error {
	switch {
	case len(s.Unknown) != 0:
		return fmt.Errorf("%w: its schema is version %d, the program's is version %d (%d steps are unknown here)", ErrNewer, s.Database, s.Program, len(s.Unknown))
	case len(s.Pending) != 0:
		return fmt.Errorf("%w: its schema is version %d, the program's is version %d (%d steps are pending)", ErrOlder, s.Database, s.Program, len(s.Pending))
	}
	return nil
}

// versions is the table in which goose notes the steps taken.
const versions = goose.DefaultTablename

// schema reads which steps were taken, and changes nothing.
func (p pool) schema(ctx context.Context) (Schema, error) {
	known, err := steps(p)
	if err != nil {
		return Schema{}, err
	}
	taken, err := p.taken(ctx)
	if err != nil {
		return Schema{}, fmt.Errorf("read schema version: %w", err)
	}
	s := Schema{Program: known[len(known)-1].Version, Applied: []Step{}, Pending: []Step{}, Unknown: []Step{}}
	for _, k := range known {
		at, ok := taken[k.Version]
		if !ok {
			s.Pending = append(s.Pending, k)
			continue
		}
		k.Applied = at
		s.Applied = append(s.Applied, k)
		s.Database = max(s.Database, k.Version)
		delete(taken, k.Version)
	}
	for version, at := range taken {
		s.Unknown = append(s.Unknown, Step{Version: version, Applied: at})
		s.Database = max(s.Database, version)
	}
	slices.SortFunc(s.Unknown, func(a, b Step) int { return int(a.Version - b.Version) })
	return s, nil
}

// taken gives the versions that the database notes, and when.
func (p pool) taken(ctx context.Context) (map[int64]time.Time, error) {
	there, err := p.hasTable(ctx, versions)
	if err != nil || !there {
		return nil, err
	}
	rows, err := p.QueryContext(ctx, `SELECT version_id, tstamp FROM `+versions+` WHERE version_id > 0`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	all := map[int64]time.Time{}
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		all[version] = at.UTC()
	}
	return all, rows.Err()
}

// hasTable says whether the database has a table of this name.
func (p pool) hasTable(ctx context.Context, name string) (bool, error) {
	var n int
	err := p.QueryRowContext(ctx, p.dialect.tables, name).Scan(&n)
	return n != 0, err
}

// goSteps are the names of the steps that are written in Go.
var goSteps = map[int64]string{4: "tree", 15: "rowid"}

// steps are those that this program knows, in order.
func steps(p pool) ([]Step, error) {
	g, err := p.provider(nil)
	if err != nil {
		return nil, err
	}
	var all []Step
	for _, source := range g.ListSources() {
		all = append(all, stepOf(source))
	}
	return all, nil
}

func stepOf(source *goose.Source) Step {
	if name, ok := goSteps[source.Version]; ok {
		return Step{Version: source.Version, Name: name}
	}
	_, name, _ := strings.Cut(strings.TrimSuffix(path.Base(source.Path), ".sql"), "_")
	return Step{Version: source.Version, Name: name}
}

// provider gives what takes the steps. counted is told how far a step has come that counts;
// it may be nil.
func (p pool) provider(counted func(done, of uint64)) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	g, err := goose.NewProvider(p.dialect.goose, p.DB, dir, goose.WithGoMigrations(treeMigration(p.dialect, counted), rowidMigration(p.dialect)))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return g, nil
}
