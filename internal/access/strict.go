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

// claims are the registered claims (RFC 7519, 4.1), undecoded; nil means absent.
type claims struct {
	Issuer    jsontext.Value `json:"iss"`
	Subject   jsontext.Value `json:"sub"`
	Audience  jsontext.Value `json:"aud"`
	Expires   jsontext.Value `json:"exp"`
	NotBefore jsontext.Value `json:"nbf"`
	IssuedAt  jsontext.Value `json:"iat"`
	ID        jsontext.Value `json:"jti"`
}

// unverified is a token of good form whose claims nobody vouches for yet. Of them
// only iss may be read, to find the key; verify gives the rest.
type unverified struct {
	header    header
	claims    claims
	input     string // the JWS signing input: header and payload as they came (RFC 7515, 5.2 step 8)
	signature []byte
}

// parse takes a token apart in the compact serialisation (RFC 7515, 7.1).
func parse(token string) (unverified, error) {
	var u unverified
	if len(token) > MaxTokenSize {
		return u, refuse(ReasonTooLarge)
	}
	if strings.Count(token, ".") != 2 {
		return u, refuse(ReasonMalformed)
	}
	end := strings.LastIndexByte(token, '.')
	u.input = token[:end]
	head, payload, _ := strings.Cut(u.input, ".")
	if err := decodeObject(head, &u.header); err != nil {
		return u, err
	}
	if err := decodeObject(payload, &u.claims); err != nil {
		return u, err
	}
	var ok bool
	if u.signature, ok = decodeSegment(token[end+1:]); !ok {
		return u, refuse(ReasonMalformed)
	}
	return u, u.header.check()
}

// verify checks the signature and gives the claims.
func (u unverified) verify(k verificationKey) (claims, error) {
	if alg, ok := text(u.header.Algorithm); !ok || alg != string(k.algorithm) {
		return claims{}, refuse(ReasonAlgorithm)
	}
	if k.method.Verify(u.input, u.signature, k.public) != nil {
		return claims{}, refuse(ReasonSignature)
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

// decodeObject decodes a segment that holds one JSON object in valid UTF-8 (RFC
// 7493), names compared with their case and escapes resolved. The decoder's errors
// quote what they read, so they end here.
func decodeObject(segment string, into any) error {
	b, ok := decodeSegment(segment)
	if !ok || jsontext.Value(b).Kind() != '{' {
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
