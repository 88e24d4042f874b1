package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A Scanner looks for card numbers in texts: for canaries, which are numbers that somebody
// sent through the service, in clear, hex and Base64; and for any number that stands by itself
// and could be one. It says where, and never what.
type Scanner struct {
	needles [][]byte
}

// NewScanner makes a scanner. Canaries are 12 to 19 digits each.
func NewScanner(canaries []string) (*Scanner, error) {
	s := &Scanner{}
	for i, c := range canaries {
		if len(c) < 12 || len(c) > 19 || bytes.ContainsFunc([]byte(c), func(r rune) bool { return r < '0' || r > '9' }) {
			return nil, fmt.Errorf("canary %d is not 12 to 19 digits", i+1)
		}
		s.needles = append(s.needles, []byte(c), []byte(hex.EncodeToString([]byte(c))))
		s.needles = append(s.needles, base64Forms([]byte(c))...)
	}
	return s, nil
}

// base64Forms are the characters that a text has in Base64 at each of the three places where it
// can begin, without those that depend on its neighbours. Digits have the same in both alphabets.
func base64Forms(text []byte) [][]byte {
	var forms [][]byte
	for shift := range 3 {
		padded := append(make([]byte, shift), text...)
		encoded := base64.RawStdEncoding.EncodeToString(padded)
		first := []int{0, 2, 3}[shift]
		last := len(padded) / 3 * 4 // whole groups
		forms = append(forms, []byte(encoded[first:last]))
	}
	return forms
}

// Holds reports whether a text holds one.
func (s *Scanner) Holds(text []byte) bool { return s.holdsCanary(text) || standsAlone(text) }

func (s *Scanner) holdsCanary(text []byte) bool {
	return slices.ContainsFunc(s.needles, func(n []byte) bool { return bytes.Contains(text, n) })
}

// randomColumns hold numbers of 63 random bits, by which the database's rows know each other.
// One in twenty looks like a card number, so that they are searched for canaries alone.
var randomColumns = []string{"passes.ref", "pass_registrations.pass"}

// standsAlone reports whether a number of 13 to 19 digits stands in the text, with neither letter
// nor digit beside it, that begins as card numbers do and has a right check digit. Digests in
// hex are full of digits, and are not meant.
func standsAlone(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if !digit(text[i]) {
			continue
		}
		end := i
		for end < len(text) && digit(text[end]) {
			end++
		}
		n := text[i:end]
		alone := (i == 0 || !word(text[i-1]) && text[i-1] != '.') && (end == len(text) || !word(text[end])) // no fraction, no name
		if alone && begins(n) && luhn(n) {
			return true
		}
		i = end
	}
	return false
}

// begins reports whether a number has a length and a beginning that card numbers have. Of 13
// digits, which times in milliseconds have too, there are only Visa's.
func begins(n []byte) bool {
	return len(n) == 13 && n[0] == '4' || len(n) > 13 && len(n) <= 19 && n[0] >= '2' && n[0] <= '6'
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func word(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// luhn is ISO/IEC 7812-1, annex B.
func luhn(n []byte) bool {
	sum := 0
	for i := range n {
		d := int(n[len(n)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// maxLine bounds what of a line is looked at at once; longer ones are looked at in parts that
// overlap.
const maxLine = 1 << 20

// overlap is longer than any form of a number.
const overlap = 128

// Lines looks through a text line by line.
func (s *Scanner) Lines(place string, r io.Reader) Scan {
	scan := Scan{Place: place, Log: true}
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; {
		line, err := in.ReadSlice('\n')
		scan.Bytes += int64(len(line))
		if s.Holds(line) {
			scan.Hits = append(scan.Hits, fmt.Sprintf("line %d", n))
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			// The end of this part is looked at again with the next one.
			tail := bytes.Clone(line[len(line)-overlap:])
			scan.Bytes -= overlap
			in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(tail), in), maxLine)
		case errors.Is(err, io.EOF):
			return scan
		case err != nil:
			scan.Err = err.Error()
			return scan
		default:
			n++
		}
	}
}

// Cells looks through the cells of a database.
func (s *Scanner) Cells(ctx context.Context, place string, each func(context.Context, func(table, column string, value []byte) error) error) Scan {
	scan := Scan{Place: place}
	rows := map[string]int{}
	err := each(ctx, func(table, column string, value []byte) error {
		at := table + "." + column
		rows[at]++
		scan.Bytes += int64(len(value))
		if s.holdsCanary(value) || !slices.Contains(randomColumns, at) && standsAlone(value) {
			scan.Hits = append(scan.Hits, fmt.Sprintf("%s, row %d", at, rows[at]))
		}
		return nil
	})
	scan.Err = textOf(err)
	return scan
}
