// Package secret holds the types that card numbers and PINs live in.
//
// A value of these types has no text form: every formatting verb, encoding/json,
// log/slog and encoding.TextMarshaler see a fixed placeholder, also when the value
// is an unexported field of a struct that is printed whole. It cannot be compared
// with ==, so that two secrets are never compared in variable time by accident.
// The content is reached through one method, Reveal, which lends it to a function
// for the length of the call:
//
//	pan, err := secret.ParsePAN(digits)
//	if err != nil { … }
//	defer pan.Wipe()
//	pan.Reveal(func(digits []byte) { … })
//
// What is not guaranteed: Go may have copied the bytes before they came here (a
// decoder's buffer, a string), and a garbage collector keeps what was copied until
// it reuses the memory. Wipe overwrites our own buffer, no more.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// cell holds the bytes behind two pointers: fmt follows one pointer of an
// unexported field and prints the second as an address, whatever the verb.
type cell struct {
	_ [0]func() // not comparable
	p **[]byte
}

func newCell(b []byte) cell {
	own := append([]byte(nil), b...)
	inner := &own
	return cell{p: &inner}
}

func (c cell) reveal(use func([]byte)) {
	if c.p == nil {
		use(nil)
		return
	}
	use(**c.p)
}

func (c cell) wipe() {
	if c.p != nil {
		Wipe(**c.p)
		**c.p = nil
	}
}

func (c cell) len() int {
	if c.p == nil {
		return 0
	}
	return len(**c.p)
}

// Wipe overwrites b with zeroes.
func Wipe(b []byte) { clear(b) }

// Text is a short confidential text, such as a cardholder's name or an expiry date.
// The zero value is the empty text.
type Text struct{ cell }

// NewText keeps a copy of s.
func NewText(s string) Text { return Text{newCell([]byte(s))} }

// Reveal lends the text to use; use must not keep it.
func (t Text) Reveal(use func(text []byte)) { t.reveal(use) }

// Wipe overwrites the text; it is empty afterwards, in every copy of t.
func (t Text) Wipe() { t.wipe() }

// Len is the text's length in bytes.
func (t Text) Len() int { return t.len() }

// String is a placeholder, never the text.
func (Text) String() string { return "[confidential]" }

// Format writes the placeholder for every verb.
func (t Text) Format(s fmt.State, _ rune) { placeholder(s, t.String()) }

// LogValue is the placeholder.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is the placeholder: a Text inside a structure that is encoded by
// mistake leaks nothing.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func placeholder(w io.Writer, s string) { _, _ = io.WriteString(w, s) }
