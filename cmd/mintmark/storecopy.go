package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/store"
)

func storeCommand() *cobra.Command {
	return group("store", "Move the database", storeCopyCommand())
}

// storeCopy are the flags of copy.
type storeCopy struct{ from, config, output string }

func storeCopyCommand() *cobra.Command {
	var f storeCopy
	c := &cobra.Command{
		Use: "copy --from FILE --config FILE", Short: "Copy a stopped service's SQLite database into PostgreSQL", Args: cobra.NoArgs,
		Long: "Copies every table of the SQLite database of --from into the empty PostgreSQL database of\n" +
			"--config, reads all of it back from both, and compares counts and digests. Interrupted at\n" +
			"any point it goes on when it is run again; until it has ended well nobody can serve from\n" +
			"the target. Both are of this program's schema (mintmark migrate up) and one environment.\n" +
			"Afterwards put the file away: served from again, it would be a second log of that name.",
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	configFlag(c, &f.config)
	c.Flags().StringVar(&f.from, "from", "", "SQLite database `file`, which no process has open")
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	return c
}

func (f *storeCopy) run(c *cobra.Command) error {
	switch {
	case f.from == "":
		return exit(exitUsage, errors.New("--from must name a SQLite database"))
	case f.output != "text" && f.output != "json":
		return exit(exitUsage, errors.New("-o must be text or json"))
	}
	cfg, err := config.Load(f.config, os.Environ())
	if err == nil && cfg.Store.Postgres.DSNFile == "" {
		err = fmt.Errorf("configuration %s: store.postgres: must name the database that is copied into", f.config)
	}
	if err != nil {
		return exit(exitConfiguration, err)
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return exit(exitConfiguration, err)
	}
	if err := asItsUser(filepath.Dir(f.from)); err != nil {
		return err
	}
	meter := meterTo(c.ErrOrStderr())
	all, err := store.Copy(c.Context(), f.from, dsn, cfg.Environment, copyProgress(meter))
	meter.clear()
	if err != nil {
		return exit(exitStorage, err)
	}
	if f.output == "json" {
		return json.MarshalWrite(c.OutOrStdout(), map[string]any{"tables": all}, jsontext.Multiline(true), json.Deterministic(true))
	}
	return printCopy(c.OutOrStdout(), all)
}

// copyProgress shows how far a table is.
func copyProgress(m *meter) store.CopyProgress {
	return func(doing, table string, done, of uint64) {
		m.show("%s %s: %d of %d rows (%d %%)", doing, table, done, of, 100*done/max(of, 1))
	}
}

func printCopy(out io.Writer, all []store.CopiedTable) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TABLE\tROWS\tSHA-256")
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\n", t.Name, t.Rows, t.SHA256)
	}
	fmt.Fprintf(w, "all %d tables are the same on both sides; put the SQLite file away\n", len(all))
	return w.Flush()
}
