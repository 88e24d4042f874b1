-- +goose Up

-- Nothing looks an entry up by its ticket, and each commit wrote a page of it.
DROP INDEX audit_entries_ticket;

-- +goose Down
CREATE INDEX audit_entries_ticket ON audit_entries (ticket);
