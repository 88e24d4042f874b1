-- +goose Up

-- The outbox of notices to the network. What a notice says is AES-256-GCM under a token
-- key. An entry is taken by moving its due_at to the end of a lease and raising its fence.
-- until_at is 0 for one that is delivered however late.
CREATE TABLE network_notices (
    id         TEXT   NOT NULL PRIMARY KEY,
    tenant     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    vault_key  TEXT   NOT NULL,
    iv         BYTEA  NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    until_at   BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    fence      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL
);
CREATE INDEX network_notices_due_at ON network_notices (due_at);

-- +goose Down
DROP TABLE network_notices;
