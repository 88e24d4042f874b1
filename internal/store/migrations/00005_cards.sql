-- +goose Up

-- Encrypted cards, which are good for one use: a claim is leased under a rising fence until
-- the result is on record. claim is the SHA-256 over tenant, iss and jti. From expires_at on
-- the message is refused for its age, and the row may go.
CREATE TABLE used_messages (
    tenant      TEXT   NOT NULL,
    claim       BYTEA  NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('claimed', 'free', 'used')),
    fence       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, claim)
);
CREATE INDEX used_messages_expires_at ON used_messages (expires_at);
CREATE INDEX cards_vault_key ON cards (vault_key, tenant, id);

-- +goose Down
DROP INDEX cards_vault_key;
DROP TABLE used_messages;
