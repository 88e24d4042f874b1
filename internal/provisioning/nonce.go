package provisioning

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// A NonceReason is why a nonce or a nonceSignature was refused. The texts are stable.
type NonceReason string

// The reasons.
const (
	NonceMissing     NonceReason = "missing"      // empty
	NonceMalformed   NonceReason = "malformed"    // neither hexadecimal nor standard Base64
	NonceWrongLength NonceReason = "wrong-length" // decodes to another number of bytes
)

// A NonceError names the member that was refused, by its name in the API, and why. It
// holds nothing of the input.
type NonceError struct {
	Member string // "nonce" or "nonceSignature"
	Reason NonceReason
	Length int // the number of bytes the member must have
}

// Error says what is expected.
func (e *NonceError) Error() string {
	return fmt.Sprintf("%s refused (%s): it must be %d bytes, in hexadecimal or standard Base64", e.Member, e.Reason, e.Length)
}

// NonceRules are the lengths, in bytes, of what Apple hands out. A zero means the
// length seen in the field: 4 for the nonce, 81 for its signature.
type NonceRules struct {
	NonceLength     int
	SignatureLength int
}

const (
	defaultNonceLength     = 4
	defaultSignatureLength = 81
)

// Canonical reads nonce and nonceSignature as callers send them: as iOS hands them
// over in Base64, or in hexadecimal. One rule decides which it is, and does not look
// at the length: a text of an even number of hexadecimal digits and nothing else is
// hexadecimal; anything else is standard Base64, as for certificates. Then the number
// of bytes must be right.
//
// The two forms overlap: "ea85a73a" is also the Base64 of six bytes. With the usual
// lengths that does no harm. Four bytes in Base64 end with "==", which is never
// hexadecimal; 81 bytes in Base64 have 108 characters, all of them hexadecimal digits
// in one case of 10^50. A length divisible by three and short, if configured for the
// nonce, makes the overlap real: a caller who means Base64 is then told wrong-length
// on occasion and must send hexadecimal. Guessing by the length instead would read one
// text as two nonces under two configurations.
func (r NonceRules) Canonical(nonce, signature string) (Nonce, error) {
	value, err := decodeNonceMember("nonce", nonce, orDefault(r.NonceLength, defaultNonceLength))
	if err != nil {
		return Nonce{}, err
	}
	sig, err := decodeNonceMember("nonceSignature", signature, orDefault(r.SignatureLength, defaultSignatureLength))
	if err != nil {
		return Nonce{}, err
	}
	return Nonce{value: value, signature: sig}, nil
}

func orDefault(n, usual int) int {
	if n == 0 {
		return usual
	}
	return n
}

func decodeNonceMember(member, text string, length int) ([]byte, error) {
	refuse := func(reason NonceReason) ([]byte, error) {
		return nil, &NonceError{Member: member, Reason: reason, Length: length}
	}
	switch {
	case text == "":
		return refuse(NonceMissing)
	case len(text) > 4*length+16: // longer than any encoding with its line breaks
		return refuse(NonceWrongLength)
	}
	var raw []byte
	var err error
	if isHex(text) {
		raw, err = hex.DecodeString(text)
	} else {
		raw, err = decodeBase64(text)
	}
	switch {
	case err != nil:
		return refuse(NonceMalformed)
	case len(raw) != length:
		return refuse(NonceWrongLength)
	}
	return raw, nil
}

// isHex reports whether s is an even number of hexadecimal digits.
func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return len(s)%2 == 0
}

// A Nonce is Apple's nonce for one provisioning attempt with the secure element's
// signature over it, in one form whatever form the caller chose. The issuer cannot
// verify the signature and passes it on inside the payload; Apple does.
type Nonce struct{ value, signature []byte }

// Hex is the nonce in lower-case hexadecimal, as in the payload.
func (n Nonce) Hex() string { return hex.EncodeToString(n.value) }

// SignatureHex is the nonceSignature in lower-case hexadecimal, as in the payload.
func (n Nonce) SignatureHex() string { return hex.EncodeToString(n.signature) }

// Bytes is the nonce, in a new slice.
func (n Nonce) Bytes() []byte { return slices.Clone(n.value) }

// SignatureBytes is the nonceSignature, in a new slice.
func (n Nonce) SignatureBytes() []byte { return slices.Clone(n.signature) }

// claimDomain begins every claim's input, so that its SHA-256 is no other digest's.
const claimDomain = "mintmark nonce claim v1"

// ClaimID names one provisioning attempt: whoever stores it first has used the nonce.
// It is the SHA-256 of the domain, the tenant, the SHA-256 of the leaf's SPKI, the
// nonce and the nonceSignature, each behind its length as eight bytes, big-endian, so
// that no two different lists have one encoding. All five are needed: four bytes of
// nonce alone collide between devices.
func ClaimID(tenant string, spki [32]byte, nonce, signature []byte) [32]byte {
	var input []byte
	for _, part := range [][]byte{[]byte(claimDomain), []byte(tenant), spki[:], nonce, signature} {
		input = binary.BigEndian.AppendUint64(input, uint64(len(part)))
		input = append(input, part...)
	}
	return sha256.Sum256(input)
}
