package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/store"
)

// openStore opens the configured database to write.
func openStore(ctx context.Context, cfg *config.Config) (*store.Store, error) {
	if cfg.Store.SQLite != "" {
		if err := asItsUser(filepath.Dir(cfg.Store.SQLite)); err != nil {
			return nil, err
		}
		s, err := store.Open(ctx, cfg.Store.SQLite, cfg.Environment)
		return s, exit(exitStorage, err)
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	s, err := store.OpenPostgres(ctx, dsn, cfg.Environment, cfg.Audit.Replica)
	return s, exit(exitStorage, err)
}

// readDSN reads a connection string, which may hold a password.
func readDSN(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("store.postgres.dsnFile: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := secret.OneReader(f); err != nil {
		return "", fmt.Errorf("store.postgres.dsnFile: %w", err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "", fmt.Errorf("store.postgres.dsnFile: %w", err)
	}
	dsn := strings.TrimSpace(string(b))
	if dsn == "" {
		return "", errors.New("store.postgres.dsnFile: the file is empty")
	}
	return dsn, nil
}
