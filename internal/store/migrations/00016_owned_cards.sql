-- +goose Up

-- A card's name is its owner's: two owners of a tenant may call cards alike, and neither
-- learns of the other. Unique was tenant and look-up value; SQLite changes a constraint by
-- making the table anew.
CREATE TABLE cards_by_owner (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    lookup     BYTEA  NOT NULL,
    owner_iss  TEXT   NOT NULL,
    owner_sub  TEXT   NOT NULL,
    vault_key  TEXT   NOT NULL,
    iv         BYTEA  NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, lookup, owner_iss, owner_sub)
);
INSERT INTO cards_by_owner (tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at) SELECT tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at FROM cards;
DROP TABLE cards;
ALTER TABLE cards_by_owner RENAME TO cards;
CREATE INDEX cards_vault_key ON cards (vault_key, tenant, id);
CREATE INDEX cards_owner ON cards (tenant, owner_iss, owner_sub, created_at, id);

-- +goose Down
CREATE TABLE cards_by_name (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    lookup     BYTEA  NOT NULL,
    owner_iss  TEXT   NOT NULL,
    owner_sub  TEXT   NOT NULL,
    vault_key  TEXT   NOT NULL,
    iv         BYTEA  NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, lookup)
);
INSERT INTO cards_by_name (tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at) SELECT tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at FROM cards;
DROP TABLE cards;
ALTER TABLE cards_by_name RENAME TO cards;
CREATE INDEX cards_vault_key ON cards (vault_key, tenant, id);
CREATE INDEX cards_owner ON cards (tenant, owner_iss, owner_sub, created_at, id);
