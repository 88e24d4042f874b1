-- +goose Up

-- Cards' tokens in wallets, as networks tell of them. reference is the tokenUniqueReference;
-- id is random, and what the log knows the row by. Of the texts that networks choose an empty
-- one stands for none. activated_at is when it was first told to be active, 0 if it never was.
-- attempt numbers the attempts at activating it through the network.
CREATE TABLE wallet_tokens (
    tenant         TEXT   NOT NULL,
    reference      TEXT   NOT NULL,
    id             TEXT   NOT NULL,
    owner_iss      TEXT   NOT NULL,
    owner_sub      TEXT   NOT NULL,
    card_reference TEXT   NOT NULL,
    external_card  TEXT   NOT NULL,
    device         TEXT   NOT NULL,
    status         TEXT   NOT NULL,
    path           TEXT   NOT NULL,
    process        TEXT   NOT NULL,
    activated_at   BIGINT NOT NULL,
    revision       BIGINT NOT NULL,
    changed_at     BIGINT NOT NULL,
    attempt        BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, reference)
);

-- Every state that a wallet token has had, the present one included.
CREATE TABLE wallet_token_history (
    tenant         TEXT   NOT NULL,
    reference      TEXT   NOT NULL,
    revision       BIGINT NOT NULL,
    id             TEXT   NOT NULL,
    owner_iss      TEXT   NOT NULL,
    owner_sub      TEXT   NOT NULL,
    card_reference TEXT   NOT NULL,
    external_card  TEXT   NOT NULL,
    device         TEXT   NOT NULL,
    status         TEXT   NOT NULL,
    path           TEXT   NOT NULL,
    process        TEXT   NOT NULL,
    activated_at   BIGINT NOT NULL,
    changed_at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, reference, revision)
);

-- Which cards may be provisioned: the tenant's rules as JSON. The greatest revision counts.
CREATE TABLE enablements (
    tenant     TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    rules      TEXT   NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, revision)
);

CREATE INDEX cards_owner ON cards (tenant, owner_iss, owner_sub, created_at, id);

-- +goose Down
DROP INDEX cards_owner;
DROP TABLE enablements;
DROP TABLE wallet_token_history;
DROP TABLE wallet_tokens;
