package hsm

import "context"

// inSession does one piece of work in a session of the current epoch, as every
// operation does.
func inSession(t *Token, op string, fn func(u *unit) error) error {
	_, err := work(context.Background(), t, op, func(u *unit) (struct{}, error) { return struct{}{}, fn(u) })
	return err
}
