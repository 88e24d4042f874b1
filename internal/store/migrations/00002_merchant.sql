-- +goose Up

-- Bearer tokens that are good for one use: a claim is leased under a rising fence until the
-- result is on record. claim is the SHA-256 over iss and jti. From expires_at on the token
-- is refused for its age, and the row may go.
CREATE TABLE used_tokens (
    claim       BYTEA  NOT NULL PRIMARY KEY,
    iss         TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('claimed', 'free', 'used')),
    fence       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX used_tokens_expires_at ON used_tokens (expires_at);

-- Merchant JWTs signed for a client (iss) on a day (UTC).
CREATE TABLE merchant_quotas (
    iss  TEXT   NOT NULL,
    day  TEXT   NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (iss, day)
);

-- +goose Down
DROP TABLE merchant_quotas;
DROP TABLE used_tokens;
