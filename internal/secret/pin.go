package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// ErrPINFile is wrapped by every refusal of a PIN file.
var ErrPINFile = errors.New("PIN file refused")

// maxPIN bounds a PIN file: PKCS#11 tokens allow up to 255 characters or fewer.
const maxPIN = 255

// PIN is what a user logs in to a token with.
type PIN struct{ cell }

// NewPIN keeps a copy of pin.
func NewPIN(pin []byte) PIN { return PIN{newCell(pin)} }

// ReadPINFile reads a PIN from a file whose content is the PIN, with at most one
// line end after it. A file that others may read or write is refused (OneReader). Errors
// wrap ErrPINFile and name the path and what to do.
func ReadPINFile(path string) (PIN, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would block
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	if !st.Mode().IsRegular() {
		return PIN{}, fmt.Errorf("%w: %s is not a regular file", ErrPINFile, path)
	}
	if err := OneReader(f); err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+3))
	defer Wipe(b)
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(pin) == 0:
		return PIN{}, fmt.Errorf("%w: %s is empty", ErrPINFile, path)
	case len(pin) > maxPIN:
		return PIN{}, fmt.Errorf("%w: %s is longer than %d bytes", ErrPINFile, path, maxPIN)
	case bytes.ContainsAny(pin, "\r\n"):
		return PIN{}, fmt.Errorf("%w: %s has more than one line", ErrPINFile, path)
	}
	return NewPIN(pin), nil
}

// Reveal lends the PIN to use; use must not keep it.
func (p PIN) Reveal(use func(pin []byte)) { p.reveal(use) }

// Wipe overwrites the PIN, in every copy of p.
func (p PIN) Wipe() { p.wipe() }

// String is a placeholder, never the PIN.
func (PIN) String() string { return "[PIN]" }

// Format writes the placeholder for every verb.
func (p PIN) Format(s fmt.State, _ rune) { placeholder(s, p.String()) }

// LogValue is the placeholder.
func (p PIN) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText is the placeholder.
func (p PIN) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
