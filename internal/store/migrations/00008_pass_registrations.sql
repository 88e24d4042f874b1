-- +goose Up

-- The stamp that a registration was given when it was made, among those of its type: what
-- changed before it, while the device was not registered, is then listed too.
ALTER TABLE pass_registrations ADD COLUMN stamp BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE pass_registrations DROP COLUMN stamp;
