-- +goose Up

-- Changes that two people make: an approval is leased under a rising fence until its result
-- is on record. document is the kind's own form, and holds digests and names, no secrets.
CREATE TABLE changes (
    id              TEXT   NOT NULL PRIMARY KEY,
    kind            TEXT   NOT NULL,
    document        BYTEA  NOT NULL,
    sha256          TEXT   NOT NULL,
    proposer_tenant TEXT   NOT NULL,
    proposer_iss    TEXT   NOT NULL,
    proposer_sub    TEXT   NOT NULL,
    proposed_at     BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('open', 'applying', 'applied', 'rejected')),
    decider_tenant  TEXT   NOT NULL,
    decider_iss     TEXT   NOT NULL,
    decider_sub     TEXT   NOT NULL,
    decided_at      BIGINT NOT NULL,
    fence           BIGINT NOT NULL,
    lease_until     BIGINT NOT NULL
);

-- +goose Down
DROP TABLE changes;
