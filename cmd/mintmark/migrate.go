package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/store"
)

func migrateCommand() *cobra.Command {
	return group("migrate", "Bring the database to this program's schema", migrateUpCommand(), migrateStatusCommand())
}

// migrateFlags are those of both commands.
type migrateFlags struct{ config, output string }

func (f *migrateFlags) register(c *cobra.Command) {
	configFlag(c, &f.config)
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

func (f *migrateFlags) load() (*config.Config, error) {
	if f.output != "text" && f.output != "json" {
		return nil, exit(exitUsage, errors.New("-o must be text or json"))
	}
	cfg, err := config.Load(f.config, os.Environ())
	return cfg, exit(exitConfiguration, err)
}

func migrateUpCommand() *cobra.Command {
	var f migrateFlags
	c := &cobra.Command{
		Use: "up", Short: "Take every step that is pending", Args: cobra.NoArgs,
		Long: "Takes the steps that this program knows and the database has not taken, each in a\n" +
			"transaction of its own, and makes a database that is empty. Two of it do not run at once.\n" +
			"SQLite: no process may have the file open. PostgreSQL: replicas may be serving;\n" +
			"docs/upgrade.md says of which steps they take no harm, and to make a backup first.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			w := &stepWatch{meter: meterTo(c.ErrOrStderr())}
			if f.output == "text" {
				w.out = c.OutOrStdout()
			}
			if err := w.run(func() error { return migrate(c.Context(), cfg, w.tell) }); err != nil {
				return err
			}
			s, err := schemaOf(c.Context(), cfg)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printSchemaJSON(c.OutOrStdout(), s)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema is version %d; %d steps were pending\n", s.Database, w.taken)
			return err
		},
	}
	f.register(c)
	return c
}

func migrateStatusCommand() *cobra.Command {
	var f migrateFlags
	c := &cobra.Command{
		Use: "status", Short: "Show which steps the database has taken, and which it has not", Args: cobra.NoArgs,
		Long: "Changes nothing, and may be asked while the service runs. Ends with status 1 if the\n" +
			"database is not of this program's schema: steps are pending, or it has taken some that\n" +
			"this program does not know.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			s, err := schemaOf(c.Context(), cfg)
			if err != nil {
				return err
			}
			show := printSchema
			if f.output == "json" {
				show = printSchemaJSON
			}
			return errors.Join(show(c.OutOrStdout(), s), s.Fit())
		},
	}
	f.register(c)
	return c
}

// migrate takes the steps that are pending in the configured database.
func migrate(ctx context.Context, cfg *config.Config, progress store.Progress) error {
	if cfg.Store.SQLite != "" {
		if err := asItsUser(filepath.Dir(cfg.Store.SQLite)); err != nil {
			return err
		}
		return exit(exitStorage, store.Migrate(ctx, cfg.Store.SQLite, cfg.Environment, progress))
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return exit(exitConfiguration, err)
	}
	return exit(exitStorage, store.MigratePostgres(ctx, dsn, cfg.Environment, progress))
}

// schemaOf reads the schema of the configured database.
func schemaOf(ctx context.Context, cfg *config.Config) (store.Schema, error) {
	if cfg.Store.SQLite != "" {
		s, err := store.SchemaOf(ctx, cfg.Store.SQLite, cfg.Environment)
		return s, exit(exitStorage, err)
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return store.Schema{}, exit(exitConfiguration, err)
	}
	s, err := store.SchemaOfPostgres(ctx, dsn, cfg.Environment)
	return s, exit(exitStorage, err)
}

func printSchemaJSON(out io.Writer, s store.Schema) error {
	return json.MarshalWrite(out, s, jsontext.Multiline(true), json.Deterministic(true))
}

func printSchema(out io.Writer, s store.Schema) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "VERSION\tSTEP\tSTATE\n")
	for _, step := range s.Applied {
		fmt.Fprintf(w, "%d\t%s\ttaken %s\n", step.Version, step.Name, step.Applied.Format(time.RFC3339))
	}
	for _, step := range s.Pending {
		fmt.Fprintf(w, "%d\t%s\tpending\n", step.Version, step.Name)
	}
	for _, step := range s.Unknown {
		fmt.Fprintf(w, "%d\t-\ttaken %s, unknown to this program\n", step.Version, step.Applied.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "the database is version %d, this program version %d\n", s.Database, s.Program)
	return w.Flush()
}

// stepWatch shows the steps as they are taken: each that was, and on a terminal how the one
// under way comes on.
type stepWatch struct {
	out   io.Writer // nil: the steps that were taken are not shown
	meter *meter
	taken int

	mu       sync.Mutex // guards what follows
	now      store.Step // the step under way, if it has a version
	began    time.Time
	done, of uint64
}

// tell is a store.Progress.
func (w *stepWatch) tell(s store.Step, done, of uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now.Version != s.Version {
		w.began = time.Now()
	}
	w.now, w.done, w.of = s, done, of
	if s.Applied.IsZero() {
		return
	}
	w.now = store.Step{}
	w.taken++
	w.meter.clear()
	if w.out != nil {
		fmt.Fprintf(w.out, "%d\t%s\ttaken in %v\n", s.Version, s.Name, time.Since(w.began).Round(time.Millisecond))
	}
}

// shownEvery is how often the step under way is shown.
const shownEvery = 200 * time.Millisecond

// run shows the step under way while do runs.
func (w *stepWatch) run(do func() error) error {
	if w.meter.to == nil {
		return do()
	}
	ended := make(chan struct{})
	var shower sync.WaitGroup
	shower.Go(func() {
		tick := time.NewTicker(shownEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.show()
			case <-ended:
				return
			}
		}
	})
	err := do()
	close(ended)
	shower.Wait()
	w.meter.clear()
	return err
}

func (w *stepWatch) show() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now.Version == 0 {
		return
	}
	entries := ""
	if w.of != 0 {
		entries = fmt.Sprintf(", %d of %d entries", w.done, w.of)
	}
	w.meter.show("%d %s: %v%s", w.now.Version, w.now.Name, time.Since(w.began).Round(time.Second), entries)
}
