-- +goose Up

-- One-time passcodes. mac is a token HMAC over tenant, id and digits; card is the card's
-- look-up value; device is a digest, zeroes for any; channel is one in hex. attempts are those
-- that are left: one is taken before a passcode is compared. verified_at is 0 until it was.
CREATE TABLE one_time_passcodes (
    tenant        TEXT   NOT NULL,
    id            TEXT   NOT NULL,
    owner_iss     TEXT   NOT NULL,
    owner_sub     TEXT   NOT NULL,
    card          BYTEA  NOT NULL,
    device        BYTEA  NOT NULL,
    channel       TEXT   NOT NULL,
    channel_since BIGINT NOT NULL,
    mac_key       TEXT   NOT NULL,
    mac           BYTEA  NOT NULL,
    attempts      BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    until_at      BIGINT NOT NULL,
    verified_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX one_time_passcodes_card ON one_time_passcodes (tenant, card, created_at);

-- +goose Down
DROP TABLE one_time_passcodes;
