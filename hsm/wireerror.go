package hsm

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
)

// wireError is an error on its way between two processes: its text, and all that somebody
// asks an error of this package.
type wireError struct {
	Text       string
	RetryAfter *time.Duration `json:",omitempty"`
	Sentinels  []int          `json:",omitempty"` // places in sentinels
	Code       *Error         `json:",omitempty"`
	Key        *KeyError      `json:",omitempty"`
	Down       *Status        `json:",omitempty"`
}

// sentinels are the errors that are compared with. Both ends are one binary, so that a place
// in the list is a name.
var sentinels = []error{
	ErrClosed, ErrBusy, ErrTokenNotFound, ErrLoginRefused, ErrNotAuthentic,
	errLate, errStuck, errSuperseded, errSignsOnly, errBindingPanic, errWrongAnswer, errBadSignature,
	secret.ErrPINFile, context.Canceled, context.DeadlineExceeded, ErrModule,
}

// packError gives an error as a field.
func packError(err error) []byte {
	w := wireError{Text: err.Error()}
	var later interface{ RetryAfter() time.Duration }
	if errors.As(err, &later) {
		after := later.RetryAfter()
		w.RetryAfter = &after
	}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			w.Sentinels = append(w.Sentinels, i)
		}
	}
	var down *DownError
	if errors.As(err, &down) {
		w.Down = &down.Status
	}
	_ = errors.As(err, &w.Code)
	_ = errors.As(err, &w.Key)
	b, err := json.Marshal(w)
	if err != nil { // it has only text and numbers
		return nil
	}
	return b
}

// unpackError gives back the error that packError was given, as far as anybody asks.
func unpackError(b []byte) error {
	var w wireError
	if json.Unmarshal(b, &w) != nil {
		return errMessage
	}
	e := &remoteError{text: w.Text}
	if w.Code != nil {
		e.is = append(e.is, w.Code)
	}
	if w.Key != nil {
		e.is = append(e.is, w.Key)
	}
	if w.Down != nil {
		e.is = append(e.is, &DownError{*w.Down})
	}
	for _, i := range w.Sentinels {
		if i >= 0 && i < len(sentinels) {
			e.is = append(e.is, sentinels[i])
		}
	}
	if w.RetryAfter != nil {
		return &unavailable{err: e, after: *w.RetryAfter}
	}
	return e
}

// remoteError is an error that another process met.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }
