-- +goose Up

-- What this database is for; checked at every start.
CREATE TABLE stamp (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Cards. Nothing here is card data in the clear: lookup is a token HMAC of tenant and
-- external id, sealed is AES-256-GCM under a token key.
CREATE TABLE cards (
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

-- Apple's nonces: a claim is leased under a rising fence until its result is on record.
CREATE TABLE apple_nonces (
    tenant      TEXT   NOT NULL,
    claim       BYTEA  NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('claimed', 'free', 'used')),
    fence       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    PRIMARY KEY (tenant, claim)
);

CREATE TABLE audit_entries (
    seq    BIGINT NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    kind   TEXT   NOT NULL,
    ticket TEXT   NOT NULL,
    tenant TEXT   NOT NULL,
    body   TEXT   NOT NULL
);
CREATE INDEX audit_entries_ticket ON audit_entries (ticket);

-- +goose Down
DROP TABLE audit_entries;
DROP TABLE apple_nonces;
DROP TABLE cards;
DROP TABLE stamp;
