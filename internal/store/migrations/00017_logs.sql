-- +goose Up

-- The logs of this database: one for each process that writes at the same time. number is the
-- log's part in audit_entries.seq and audit_checkpoints.size, which are number * 2^48 and the
-- number in the log. Numbers have no gaps. name is empty for a log that any process may take.
-- origin is that of its checkpoints, empty before the first.
CREATE TABLE audit_logs (
    number     BIGINT NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX audit_logs_name ON audit_logs (name) WHERE name <> '';
INSERT INTO audit_logs (number, name, origin, created_at) VALUES (0, '', '', 0);

-- Who leased a notice last: the number of its log, so that the next process on that log can
-- free what the one before left.
ALTER TABLE network_notices ADD COLUMN log BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE network_notices DROP COLUMN log;
DROP TABLE audit_logs;
