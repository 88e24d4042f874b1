package cms

import "errors"

// The tags in use (X.690, 8.1.2). All fit one octet.
const (
	tagInteger         = 0x02
	tagOctetString     = 0x04
	tagNull            = 0x05
	tagOID             = 0x06
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xa0 // [0], constructed
	tagContext1        = 0xa1 // [1], constructed
	tagContext0Plain   = 0x80 // [0], primitive
)

// element encodes one tag with the parts as content, its length in the shortest form.
// Three length octets, 16 MB, are the most it writes; a pass signature has 3 KB.
func element(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

var errDER = errors.New("not DER: a tag or length that is not in the one permitted form, or bytes that end early")

// reader takes elements off the front of a DER text.
type reader struct{ rest []byte }

// any takes the next element, whatever its tag. whole is tag, length and content.
func (r *reader) any() (tag byte, content, whole []byte, err error) {
	b := r.rest
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, errDER
	}
	header, n := 2, int(b[1])
	if b[1] >= 0x80 {
		octets := int(b[1] & 0x7f) // 0 is BER's indefinite form
		if octets == 0 || octets > 3 || len(b) < 2+octets || b[2] == 0 {
			return 0, nil, nil, errDER
		}
		n = 0
		for _, o := range b[2 : 2+octets] {
			n = n<<8 | int(o)
		}
		if n < 0x80 {
			return 0, nil, nil, errDER
		}
		header += octets
	}
	if len(b)-header < n {
		return 0, nil, nil, errDER
	}
	r.rest = b[header+n:]
	return b[0], b[header : header+n], b[:header+n], nil
}

// take takes the next element, which must have this tag, and gives its content.
func (r *reader) take(tag byte) ([]byte, error) {
	got, content, _, err := r.any()
	if err == nil && got != tag {
		err = errDER
	}
	return content, err
}

// next reports whether the next element has this tag.
func (r *reader) next(tag byte) bool { return len(r.rest) > 0 && r.rest[0] == tag }

// end fails if anything is left.
func (r *reader) end() error {
	if len(r.rest) > 0 {
		return errDER
	}
	return nil
}

// only gives the content of the one element that b is.
func only(tag byte, b []byte) ([]byte, error) {
	r := reader{b}
	content, err := r.take(tag)
	if err == nil {
		err = r.end()
	}
	return content, err
}
