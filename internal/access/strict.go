package access

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxTokenSize bounds a token, in bytes. It is checked before anything is decoded.
const MaxTokenSize = 8 << 10

// header is the part of a JOSE header (RFC 7515, 4.1) that is looked at, undecoded;
// nil means absent. The members that would bring a key along or say where to fetch
// one (jwk, jku, x5c, x5u) are read past, like every unknown member: the key comes
// from the configuration or not at all (RFC 8725, 3.10).
type header struct {
	Algorithm jsontext.Value `json:"alg"`
	Type      jsontext.Value `json:"typ"`
	KeyID     jsontext.Value `json:"kid"`
	Critical  jsontext.Value `json:"crit"`
	Base64    jsontext.Value `json:"b64"`
}

// check refuses what would have to be understood and is not (crit, even empty: RFC
// 7515, 4.1.11 forbids that; b64: RFC 7797), and types that are not JWT. RFC 7519,
// 5.1 recommends capitals; media types know no case.
func (h header) check() error {
	if h.Critical != nil || h.Base64 != nil {
		return refuse(ReasonCriticalHeader)
	}
	if h.Type != nil {
		if typ, ok := text(h.Type); !ok || !strings.EqualFold(typ, "JWT") {
			return refuse(ReasonType)
		}
	}
	return nil
}

// jws is a signed object of good form, whose payload nobody vouches for yet.
type jws struct {
	header    header
	payload   []byte
	input     string // the signing input: header and payload as they came (RFC 7515, 5.2 step 8)
	signature []byte
}

// split takes a token apart in the compact serialisation (RFC 7515, 7.1).
func split(token string) (j jws, err error) {
	if len(token) > MaxTokenSize {
		return j, refuse(ReasonTooLarge)
	}
	if strings.Count(token, ".") != 2 {
		return j, refuse(ReasonMalformed)
	}
	end := strings.LastIndexByte(token, '.')
	j.input = token[:end]
	head, payload, _ := strings.Cut(j.input, ".")
	rawHeader, ok1 := decodeSegment(head)
	body, ok2 := decodeSegment(payload)
	signature, ok3 := decodeSegment(token[end+1:])
	if !ok1 || !ok2 || !ok3 {
		return j, refuse(ReasonMalformed)
	}
	if err := decodeObject(rawHeader, &j.header); err != nil {
		return j, err
	}
	j.payload, j.signature = body, signature
	return j, j.header.check()
}

// verify checks that alg is what the key is for, and then the signature.
func (j jws) verify(k verificationKey, t *trace) error {
	alg, ok := text(j.header.Algorithm)
	ok = ok && alg == string(k.algorithm)
	if err := t.step("algorithm", must(ok, ReasonAlgorithm), "alg is %s; the key is for %s", quoted(j.header.Algorithm), k.algorithm); err != nil {
		return err
	}
	ok = k.seen.verified(j, func() bool { return k.method.Verify(j.input, j.signature, k.public) == nil })
	return t.step("signature", must(ok, ReasonSignature), "%d bytes under the key", len(j.signature))
}

// claims are the claims that are looked at here, undecoded; nil means absent: the
// registered ones (RFC 7519, 4.1), cnf (RFC 7800, 3.1) and our peers' usr.
type claims struct {
	Issuer    jsontext.Value `json:"iss"`
	Subject   jsontext.Value `json:"sub"`
	Audience  jsontext.Value `json:"aud"`
	Expires   jsontext.Value `json:"exp"`
	NotBefore jsontext.Value `json:"nbf"`
	IssuedAt  jsontext.Value `json:"iat"`
	ID        jsontext.Value `json:"jti"`
	User      jsontext.Value `json:"usr"`

	Confirmation jsontext.Value `json:"cnf"`

	payload []byte // the object they are members of
}

// unverified is a token of good form whose claims nobody vouches for yet. Of them
// only iss may be read, to find the key; verify gives the rest.
type unverified struct {
	jws
	claims claims
}

// parse takes a token apart and reads its claims.
func parse(token string) (unverified, error) {
	j, err := split(token)
	if err != nil {
		return unverified{}, err
	}
	u := unverified{jws: j, claims: claims{payload: j.payload}}
	return u, decodeObject(j.payload, &u.claims)
}

// verify checks the signature and gives the claims.
func (u unverified) verify(k verificationKey, t *trace) (claims, error) {
	if err := u.jws.verify(k, t); err != nil {
		return claims{}, err
	}
	return u.claims, nil
}

// decodeSegment decodes Base64url without padding (RFC 7515, 2) in the one way in
// which the bytes can be written. Strict refuses leftover bits that are not zero;
// that the decoder skips line ends is undone here.
func decodeSegment(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

// MaxDepth bounds how deep objects and arrays may be nested in what others send:
// further than any honest token, and no burden to whoever walks the claims later.
const MaxDepth = 32

// decodeObject decodes one JSON object in valid UTF-8 (RFC 7493), names compared with
// their case and escapes resolved. The decoder's errors quote what they read, so they
// end here.
func decodeObject(b []byte, into any) error {
	if jsontext.Value(b).Kind() != '{' || deeper(b, MaxDepth) {
		return refuse(ReasonMalformed)
	}
	switch err := json.Unmarshal(b, into); {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuse(ReasonDuplicateMember)
	case err != nil:
		return refuse(ReasonMalformed)
	}
	return nil
}

// deeper reports whether brackets outside strings are nested more than limit deep. It
// is exact for JSON; of anything else the decoder says what is wrong.
func deeper(b []byte, limit int) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}

// text is the string that v is, if it is one.
func text(v jsontext.Value) (s string, ok bool) {
	ok = v.Kind() == '"' && json.Unmarshal(v, &s) == nil
	return s, ok
}

const (
	maxNumber = 32           // longest number that a time may be written as
	endOfTime = 253402300800 // 10000-01-01T00:00:00Z, which RFC 3339 cannot write
)

// numericDate is the time that v is: seconds since 1970, with a fraction if need be
// (RFC 7519, 2).
func numericDate(v jsontext.Value) (time.Time, bool) {
	if v.Kind() != '0' || len(v) > maxNumber {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 1 || f >= endOfTime {
		return time.Time{}, false
	}
	seconds, fraction := math.Modf(f)
	return time.Unix(int64(seconds), int64(fraction*1e9)), true
}
