package passkit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Strings are the texts of one language, xx.lproj/pass.strings: what stands in pass.json
// and what is shown instead.
type Strings map[string]string

// StringsFile names the texts of a language in a bundle.
func StringsFile(language string) string { return language + ".lproj/" + fileStrings }

const fileStrings = "pass.strings"

// ErrStrings is wrapped by the error for a pass.strings that cannot be read.
var ErrStrings = errors.New("not a pass.strings file")

// Encode writes "key" = "value"; lines in UTF-8, sorted by key.
func (s Strings) Encode() []byte {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s = %s;\n", quote(key), quote(s[key]))
	}
	return b.Bytes()
}

// EncodeUTF16 is Encode in UTF-16, little endian with a byte order mark: the form of
// Apple's older tools.
func (s Strings) EncodeUTF16() []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(s.Encode()))) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}

// ParseStrings reads UTF-8, with or without a byte order mark, and UTF-16 with one. A
// key that stands twice is refused: which of the two is shown is not documented.
func ParseStrings(b []byte) (Strings, error) {
	if bytes.HasPrefix(b, []byte("bplist")) {
		return nil, fmt.Errorf("%w: it is a binary property list; use the source text", ErrStrings)
	}
	text, err := decodeText(b)
	if err != nil {
		return nil, err
	}
	s, p := Strings{}, stringsParser{rest: text, line: 1}
	for {
		more, err := p.space()
		if err != nil {
			return nil, err
		}
		if !more {
			return s, nil
		}
		key, value, err := p.entry()
		if err != nil {
			return nil, err
		}
		if _, twice := s[key]; twice {
			return nil, p.fault("a key stands twice")
		}
		s[key] = value
	}
}

// decodeText finds the encoding by the byte order mark.
func decodeText(b []byte) (string, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		b = bytes.TrimPrefix(b, []byte{0xef, 0xbb, 0xbf})
		if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
			return "", fmt.Errorf("%w: neither UTF-8 nor UTF-16 with a byte order mark", ErrStrings)
		}
		return string(b), nil
	}
	if len(b)%2 == 1 {
		return "", fmt.Errorf("%w: UTF-16 with an odd number of bytes", ErrStrings)
	}
	units := make([]uint16, 0, len(b)/2)
	for b = b[2:]; len(b) > 0; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return string(utf16.Decode(units)), nil
}

// stringsParser reads the old property list text: "key" = "value"; with C comments.
type stringsParser struct {
	rest string
	line int
}

func (p *stringsParser) fault(what string) error {
	return fmt.Errorf("%w: line %d: %s", ErrStrings, p.line, what)
}

// skip drops the first n bytes.
func (p *stringsParser) skip(n int) {
	p.line += strings.Count(p.rest[:n], "\n")
	p.rest = p.rest[n:]
}

// space skips white space and comments, and reports whether anything is left.
func (p *stringsParser) space() (more bool, err error) {
	for {
		p.skip(len(p.rest) - len(strings.TrimLeft(p.rest, " \t\r\n\v\f\u2028\u2029")))
		switch {
		case p.rest == "":
			return false, nil
		case strings.HasPrefix(p.rest, "//"):
			n := strings.IndexByte(p.rest, '\n')
			if n < 0 {
				n = len(p.rest)
			}
			p.skip(n)
		case strings.HasPrefix(p.rest, "/*"):
			n := strings.Index(p.rest[2:], "*/")
			if n < 0 {
				return false, p.fault("a comment does not end")
			}
			p.skip(n + 4)
		default:
			return true, nil
		}
	}
}

// entry reads key = value;
func (p *stringsParser) entry() (key, value string, err error) {
	if key, err = p.word(); err != nil {
		return "", "", err
	}
	if err = p.sign("=", "= is missing after a key"); err != nil {
		return "", "", err
	}
	if _, err = p.space(); err != nil {
		return "", "", err
	}
	if value, err = p.word(); err != nil {
		return "", "", err
	}
	return key, value, p.sign(";", "; is missing after a value")
}

func (p *stringsParser) sign(s, fault string) error {
	if _, err := p.space(); err != nil {
		return err
	}
	if !strings.HasPrefix(p.rest, s) {
		return p.fault(fault)
	}
	p.skip(len(s))
	return nil
}

// word reads a text in quotes, or one of letters, digits and few signs without.
func (p *stringsParser) word() (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		n := len(p.rest) - len(strings.TrimLeftFunc(p.rest, plain))
		if n == 0 {
			return "", p.fault("a text in quotes is missing")
		}
		word := p.rest[:n]
		p.skip(n)
		return word, nil
	}
	var out strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.skip(i + 1)
			return out.String(), nil
		case '\\':
			r, n, ok := unescape(p.rest[i+1:])
			if !ok {
				return "", p.fault("an escape is not known")
			}
			out.WriteRune(r)
			i += n
		default:
			out.WriteByte(p.rest[i])
		}
	}
	return "", p.fault("a text does not end")
}

func plain(r rune) bool {
	return r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-$", r))
}

// unescape reads what follows a backslash, and how long it is.
func unescape(s string) (r rune, n int, ok bool) {
	if s == "" {
		return 0, 0, false
	}
	switch s[0] {
	case '"', '\'', '\\', '\n':
		return rune(s[0]), 1, true
	case 'n':
		return '\n', 1, true
	case 'r':
		return '\r', 1, true
	case 't':
		return '\t', 1, true
	case 'U', 'u': // one UTF-16 unit, or two that are a surrogate pair
		hi, ok := unit(s)
		if !ok {
			return 0, 0, false
		}
		if utf16.IsSurrogate(hi) && len(s) > 6 && s[5] == '\\' {
			if lo, ok := unit(s[6:]); ok {
				return utf16.DecodeRune(hi, lo), 11, true
			}
		}
		return hi, 5, !utf16.IsSurrogate(hi)
	}
	return 0, 0, false
}

// unit reads U and four hexadecimal digits.
func unit(s string) (rune, bool) {
	if len(s) < 5 || s[0] != 'U' && s[0] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:5], 16, 16)
	return rune(n), err == nil
}
