-- +goose Up

-- An entry's place in the Merkle tree: the hashes that it added, and the digest of its
-- body, which stays when the body expires. Filled in by the next step.
ALTER TABLE audit_entries ADD COLUMN body_sha256 BYTEA;
ALTER TABLE audit_entries ADD COLUMN hashes BYTEA;

-- Signed checkpoints: the tree's size and root, under the audit-checkpoint key.
CREATE TABLE audit_checkpoints (
    size BIGINT NOT NULL PRIMARY KEY,
    root BYTEA  NOT NULL,
    at   BIGINT NOT NULL,
    spki BYTEA  NOT NULL,
    note TEXT   NOT NULL
);

-- +goose Down
DROP TABLE audit_checkpoints;
ALTER TABLE audit_entries DROP COLUMN hashes;
ALTER TABLE audit_entries DROP COLUMN body_sha256;
