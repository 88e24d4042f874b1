package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/store"
)

// openStore opens the configured database to write.
func openStore(ctx context.Context, cfg *config.Config) (*store.Store, error) {
	if cfg.Store.SQLite != "" {
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
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("store.postgres.dsnFile: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("store.postgres.dsnFile: %s can be read by others than its owner (mode %04o); make it 0600", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("store.postgres.dsnFile: %w", err)
	}
	dsn := strings.TrimSpace(string(b))
	if dsn == "" {
		return "", errors.New("store.postgres.dsnFile: the file is empty")
	}
	return dsn, nil
}
