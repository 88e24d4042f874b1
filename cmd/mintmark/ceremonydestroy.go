package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// mayDestroy refuses to destroy what is still needed: a key whose tokens others still verify,
// and one under which something is stored.
func (r *rite) mayDestroy(ctx context.Context) error {
	for _, d := range r.plan.Destroy {
		k, _ := r.ring.Find(d.Key) // the plan was checked
		if signer.Needed(k, time.Now()) {
			return exit(exitConfiguration, fmt.Errorf("key %s: others still verify what it signed, until three days after its retirement", k.Name))
		}
		if k.Purpose != hsm.CardVault {
			continue
		}
		cards, notices, err := r.sealedUnder(ctx, k.Name)
		if err != nil {
			return err
		}
		if cards > 0 {
			return exit(exitConfiguration, fmt.Errorf("key %s: %d cards are stored under it; move them with mintmark cards rekey", k.Name, cards))
		}
		if notices > 0 {
			return exit(exitConfiguration, fmt.Errorf("key %s: %d notices to the network are sealed under it; wait until they are delivered", k.Name, notices))
		}
	}
	return nil
}

// sealedUnder counts what is sealed under a vault key, in the service's own database: the one
// of the configuration, whatever the environment says of where this ceremony is put on record.
func (r *rite) sealedUnder(ctx context.Context, key string) (cards, notices int, err error) {
	cfg, err := config.LoadFor(r.p.path, nil, r.p.roles)
	if err != nil {
		return 0, 0, exit(exitConfiguration, err)
	}
	s, err := openReadOnly(ctx, cfg)
	if err != nil {
		return 0, 0, exit(exitStorage, fmt.Errorf("count what is sealed under key %s: %w", key, err))
	}
	defer func() { err = errors.Join(err, exit(exitStorage, s.Close())) }()
	cards, notices, err = s.SealedUnder(ctx, key)
	return cards, notices, exit(exitStorage, err)
}

// openReadOnly opens the configured database to read, beside whoever writes it.
func openReadOnly(ctx context.Context, cfg *config.Config) (*store.Store, error) {
	if cfg.Store.SQLite != "" {
		return store.OpenReadOnly(ctx, cfg.Store.SQLite)
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return nil, err
	}
	return store.OpenPostgresReadOnly(ctx, dsn)
}
