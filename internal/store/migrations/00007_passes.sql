-- +goose Up

-- Files that a tenant's passes share, by the SHA-256 of their content in hex.
CREATE TABLE pass_assets (
    tenant     TEXT   NOT NULL,
    sha256     TEXT   NOT NULL,
    content    BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, sha256)
);

-- Pass types. stamp is the last that was given out, and last_modified the latest second
-- that a version has, of the type and all its passes; the others belong to the type's own
-- revision. Whoever changes a pass locks the type's row first: stamps then become visible
-- in their order.
CREATE TABLE pass_types (
    tenant           TEXT   NOT NULL,
    type             TEXT   NOT NULL,
    template         TEXT   NOT NULL,
    files            TEXT   NOT NULL,
    certificate      TEXT   NOT NULL,
    revision         BIGINT NOT NULL,
    content_stamp    BIGINT NOT NULL,
    content_modified BIGINT NOT NULL,
    stamp            BIGINT NOT NULL,
    last_modified    BIGINT NOT NULL,
    PRIMARY KEY (tenant, type)
);

-- Passes. ref is random; registrations know a pass by it. personal_* is the one
-- personalisation: claimed under a lease and a fence, then done.
CREATE TABLE passes (
    ref            BIGINT NOT NULL PRIMARY KEY,
    tenant         TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    serial         TEXT   NOT NULL,
    document       TEXT   NOT NULL,
    token          TEXT   NOT NULL,
    files          TEXT   NOT NULL,
    voided         BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    stamp          BIGINT NOT NULL,
    modified       BIGINT NOT NULL,
    personal_state TEXT   NOT NULL CHECK (personal_state IN ('free', 'claimed', 'done')),
    personal_fence BIGINT NOT NULL,
    personal_until BIGINT NOT NULL,
    personal_info  TEXT   NOT NULL,
    UNIQUE (tenant, type, serial)
);

-- Devices that have a pass. device is a digest over tenant, type and the device's own
-- identifier.
CREATE TABLE pass_registrations (
    device     BYTEA  NOT NULL,
    pass       BIGINT NOT NULL,
    push_token TEXT   NOT NULL,
    client     TEXT   NOT NULL,
    renewed_at BIGINT NOT NULL,
    PRIMARY KEY (device, pass)
);
CREATE INDEX pass_registrations_pass ON pass_registrations (pass);
CREATE INDEX pass_registrations_push_token ON pass_registrations (push_token);

-- The outbox of pushes. An entry is taken by moving its due_at to the end of a lease and
-- raising its fence; writing it anew raises the fence too, so that who held it before
-- cannot end it.
CREATE TABLE pass_pushes (
    tenant     TEXT   NOT NULL,
    type       TEXT   NOT NULL,
    push_token TEXT   NOT NULL,
    client     TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    fence      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, type, push_token)
);
CREATE INDEX pass_pushes_due_at ON pass_pushes (tenant, type, due_at);

-- +goose Down
DROP TABLE pass_pushes;
DROP TABLE pass_registrations;
DROP TABLE passes;
DROP TABLE pass_types;
DROP TABLE pass_assets;
