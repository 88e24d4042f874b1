package store

import "context"

// OnWriter executes a text on the connection that writes.
func OnWriter(s *Store, text string) error {
	_, err := s.write.DB.ExecContext(context.Background(), text)
	return err
}
