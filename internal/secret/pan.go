package secret

import (
	"errors"
	"fmt"
	"log/slog"
)

// ErrNotPAN is returned for a text that is no primary account number: 12 to 19
// decimal digits with a correct check digit (ISO/IEC 7812-1, annex B). It does not
// say which rule failed, and never carries the text.
var ErrNotPAN = errors.New("not a primary account number")

// PAN is a primary account number. The zero value holds none.
type PAN struct{ cell }

// ParsePAN keeps a copy of digits if they are a primary account number.
func ParsePAN(digits []byte) (PAN, error) {
	if len(digits) < 12 || len(digits) > 19 || !luhn(digits) {
		return PAN{}, ErrNotPAN
	}
	return PAN{newCell(digits)}, nil
}

// Reveal lends the decimal digits to use; use must not keep them.
func (p PAN) Reveal(use func(digits []byte)) { p.reveal(use) }

// Wipe overwrites the digits, in every copy of p.
func (p PAN) Wipe() { p.wipe() }

// Last4 is the last four digits: with the first six the most of a PAN that may be
// shown (PCI DSS 4.0.1, 3.4.1). It is empty for the zero value.
func (p PAN) Last4() string {
	var s string
	p.reveal(func(d []byte) {
		if len(d) >= 4 {
			s = string(d[len(d)-4:])
		}
	})
	return s
}

// String is a placeholder, never the number.
func (PAN) String() string { return "[PAN]" }

// Format writes the placeholder for every verb.
func (p PAN) Format(s fmt.State, _ rune) { placeholder(s, p.String()) }

// LogValue is the placeholder.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText is the placeholder.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// LooksLikePAN reports whether s holds, anywhere, 13 to 19 digits that are a primary
// account number, single spaces and dashes between them ignored. A number may begin
// and end wherever a group of digits does, so that one beside it does not hide it. It is
// the net under logs and under identifiers that a caller chooses: a net, since one
// number in ten has a correct check digit by chance.
func LooksLikePAN(s string) bool {
	digit := func(i int) bool { return i >= 0 && i < len(s) && s[i] >= '0' && s[i] <= '9' }
	for i := range len(s) {
		if digit(i) && !digit(i-1) && panFrom(s[i:]) {
			return true
		}
	}
	return false
}

// panFrom reports whether s, which begins with a digit, begins with a number as
// LooksLikePAN describes it.
func panFrom(s string) bool {
	var run []byte
	for i := 0; i < len(s) && len(run) <= 19; i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			run = append(run, c)
			continue
		case len(run) >= 13 && luhn(run):
			return true
		case c != ' ' && c != '-', s[i-1] == ' ', s[i-1] == '-':
			return false
		}
	}
	return len(run) >= 13 && len(run) <= 19 && luhn(run)
}
