-- +goose Up

-- Answers to the network's approval check. card is the card's look-up value; device and
-- session are digests, zeroes for none. required is a JSON array of rules with the steps that
-- fulfil them. From until_at on a decision does not count.
CREATE TABLE provisioning_decisions (
    tenant    TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    owner_iss TEXT   NOT NULL,
    owner_sub TEXT   NOT NULL,
    card      BYTEA  NOT NULL,
    device    BYTEA  NOT NULL,
    session   BYTEA  NOT NULL,
    apple     TEXT   NOT NULL,
    path      TEXT   NOT NULL,
    required  TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    until_at  BIGINT NOT NULL,
    number    BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, card, number)
);

-- +goose Down
DROP TABLE provisioning_decisions;
