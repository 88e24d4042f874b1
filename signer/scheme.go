package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// A Scheme is how activation data are made for a network whose form is not public: Amex,
// Discover, domestic networks. Nothing of it is a standard: it is what the network asked
// for. The data are a list of typed fields, each of which can hold no delimiter, so that no
// value can pass for two.
type Scheme struct {
	Name      string
	Algorithm SchemeAlgorithm
	// Key is the keyring's name of a network-otp key, for RS256, ES256 and TDEA.
	Key string
	// Recipient is the network's public key, for ECDH-ES and RSA-OAEP-256; RecipientID its
	// kid, if it has one.
	Recipient   crypto.PublicKey
	RecipientID string
	// Delimiter stands between fields: one of | ; , :
	Delimiter string
	// Names puts each field's name and = before its value.
	Names  bool
	Fields []Field
}

// SchemeAlgorithm is what is done with the fields.
type SchemeAlgorithm string

// The algorithms. A JWS or JWE is in its compact serialisation, the fields are its payload.
// TDEA gives upper-case hex of triple DES in CBC mode with an IV of zeroes over the fields
// in the layout Framed.
const (
	SchemeRS256   SchemeAlgorithm = "RS256"
	SchemeES256   SchemeAlgorithm = "ES256"
	SchemeECDH    SchemeAlgorithm = "ECDH-ES"      // with A256GCM; the ephemeral key is made in the token
	SchemeRSAOAEP SchemeAlgorithm = "RSA-OAEP-256" // with A256GCM
	SchemeTDEA    SchemeAlgorithm = "TDEA"
)

// A Field is one value.
type Field struct {
	Name  string
	Type  FieldType
	Value string // of a FieldText
}

// FieldType says what a field's value is.
type FieldType string

// The types. The pattern of each excludes every delimiter, '=' among them.
const (
	FieldPAN       FieldType = "pan"                  // 12 to 19 digits
	FieldExpiry    FieldType = "expiry"               // MMYY
	FieldNonce     FieldType = "nonce"                // lower-case hex
	FieldReference FieldType = "tokenUniqueReference" // empty where none was given
	FieldTimestamp FieldType = "timestamp"            // yyyyMMddHHmmss, UTC
	FieldAuthcode  FieldType = "authcode"             // six random characters of A-Z0-9
	FieldText      FieldType = "text"                 // a fixed text
)

var fieldPatterns = map[FieldType]*regexp.Regexp{
	FieldPAN:       regexp.MustCompile(`^[0-9]{12,19}$`),
	FieldExpiry:    regexp.MustCompile(`^[0-9]{4}$`),
	FieldNonce:     regexp.MustCompile(`^[0-9a-f]{2,128}$`),
	FieldReference: regexp.MustCompile(`^[A-Za-z0-9_-]{0,128}$`),
	FieldTimestamp: regexp.MustCompile(`^[0-9]{14}$`),
	FieldAuthcode:  regexp.MustCompile(`^[A-Z0-9]{6}$`),
	FieldText:      regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`),
}

var fieldName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// CheckReference reports whether s can be a tokenUniqueReference.
func CheckReference(s string) bool { return fieldPatterns[FieldReference].MatchString(s) }

// Check reports everything that is wrong with the scheme.
func (s Scheme) Check() error {
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	switch s.Algorithm {
	case SchemeRS256, SchemeES256, SchemeTDEA:
		if s.Key == "" || s.Recipient != nil {
			say("algorithm %s takes a key of the keyring, and no public key", s.Algorithm)
		}
	case SchemeECDH, SchemeRSAOAEP:
		if s.Key != "" || s.Recipient == nil {
			say("algorithm %s takes the network's public key, and no key of the keyring", s.Algorithm)
			break
		}
		if err := s.checkRecipient(); err != nil {
			say("%w", err)
		}
	default:
		say("algorithm %q is none of RS256, ES256, ECDH-ES, RSA-OAEP-256, TDEA", s.Algorithm)
	}
	if len(s.Delimiter) != 1 || !strings.Contains("|;,:", s.Delimiter) {
		say("delimiter must be one of | ; , :")
	}
	if len(s.Fields) == 0 {
		say("fields must name at least one")
	}
	for i, f := range s.Fields {
		if _, ok := fieldPatterns[f.Type]; !ok {
			say("fields[%d].type %q is not known", i, f.Type)
		}
		if !fieldName.MatchString(f.Name) {
			say("fields[%d].name must be letters, digits and underscores", i)
		}
		if (s.Algorithm == SchemeRS256 || s.Algorithm == SchemeES256) && (f.Type == FieldPAN || f.Type == FieldExpiry) {
			say("fields[%d] is card data, and a JWS can be read by whoever carries it: encrypt, or leave it out", i)
		}
		if (f.Type == FieldText) != (f.Value != "") || (f.Value != "" && !fieldPatterns[FieldText].MatchString(f.Value)) {
			say("fields[%d].value is for type text, 1 to 64 characters of A-Z, a-z, 0-9, '_', '.', '-'", i)
		}
	}
	return errors.Join(wrong...)
}

func (s Scheme) checkRecipient() error {
	switch pub := s.Recipient.(type) {
	case *ecdsa.PublicKey:
		if _, err := pub.ECDH(); s.Algorithm == SchemeECDH && err == nil && pub.Curve.Params().BitSize == 256 {
			return nil
		}
	case *rsa.PublicKey:
		if s.Algorithm == SchemeRSAOAEP && pub.N.BitLen() >= 2048 {
			return nil
		}
	}
	return fmt.Errorf("the network's public key must be P-256 for ECDH-ES, RSA of 2048 bits or more for RSA-OAEP-256")
}

// SchemeInput are the values that fields are made of.
type SchemeInput struct {
	PAN       secret.PAN
	Expiry    secret.Text // MMYY
	Nonce     string      // lower-case hex
	Reference string      // may be empty
	At        time.Time
}

// MakeSchemeData makes activation data as a scheme says.
func (g *Gate) MakeSchemeData(ctx context.Context, t *record.Ticket, s Scheme, in SchemeInput) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.make-scheme-data")
	defer at.End()
	var none record.Held[[]byte]
	if err := useFor(t, "scheme-data", record.SignCard, record.ActivationData); err != nil {
		return none, err
	}
	text, err := s.text(in)
	defer secret.Wipe(text)
	if err != nil {
		return none, fmt.Errorf("scheme %s: %w", s.Name, err)
	}
	out, err := g.schemeData(ctx, s, text)
	if err != nil {
		return none, fmt.Errorf("scheme %s: %w", s.Name, err)
	}
	return record.Hold(t, "activationData", out, out), nil
}

func (g *Gate) schemeData(ctx context.Context, s Scheme, text []byte) ([]byte, error) {
	switch s.Algorithm {
	case SchemeRS256, SchemeES256:
		return g.schemeJWS(ctx, s, text)
	case SchemeTDEA:
		if err := g.schemeKey(s); err != nil {
			return nil, err
		}
		blocks, err := Framed.blocks(text)
		defer secret.Wipe(blocks)
		if err != nil {
			return nil, err
		}
		sealed, err := g.keys.EncryptTDEA(ctx, s.Key, blocks)
		return []byte(strings.ToUpper(hex.EncodeToString(sealed))), err
	case SchemeECDH:
		return g.schemeECDH(ctx, s, text)
	default:
		return schemeOAEP(s, text)
	}
}

// schemeOAEP seals the fields as a JWE (RFC 7516, 7.1) with RSA-OAEP-256. The content key is made
// here: there is no key of ours in it.
func schemeOAEP(s Scheme, text []byte) ([]byte, error) {
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: s.Recipient, KeyID: s.RecipientID}, nil)
	if err != nil {
		return nil, err
	}
	var compact string
	hsm.Erase(func() {
		var jwe *jose.JSONWebEncryption
		if jwe, err = enc.Encrypt(text); err == nil {
			compact, err = jwe.CompactSerialize()
		}
	})
	return []byte(compact), err
}

// text joins the fields' values.
func (s Scheme) text(in SchemeInput) ([]byte, error) {
	var b []byte
	for i, f := range s.Fields {
		if i > 0 {
			b = append(b, s.Delimiter...)
		}
		if s.Names {
			b = append(b, f.Name+"="...)
		}
		from := len(b)
		switch f.Type {
		case FieldPAN:
			in.PAN.Reveal(func(p []byte) { b = append(b, p...) })
		case FieldExpiry:
			in.Expiry.Reveal(func(e []byte) { b = append(b, e...) })
		case FieldNonce:
			b = append(b, in.Nonce...)
		case FieldReference:
			b = append(b, in.Reference...)
		case FieldTimestamp:
			b = append(b, in.At.UTC().Format("20060102150405")...)
		case FieldAuthcode:
			b = append(b, randomOf(authcodeAlphabet, 6)...)
		default:
			b = append(b, f.Value...)
		}
		if !fieldPatterns[f.Type].Match(b[from:]) {
			return b, fmt.Errorf("the value of field %s has not the form of its type", f.Name)
		}
	}
	return b, nil
}

// schemeKey reports a key that is not for schemes: its name comes from a configuration.
func (g *Gate) schemeKey(s Scheme) error {
	key, err := g.keys.Key(s.Key)
	if err == nil && key.Purpose != hsm.NetworkOTP {
		err = fmt.Errorf("key %s is for %s", key.Name, key.Purpose)
	}
	return err
}

// schemeJWS signs the fields as a JWS (RFC 7515, 7.1), header alg and kid.
func (g *Gate) schemeJWS(ctx context.Context, s Scheme, text []byte) ([]byte, error) {
	if err := g.schemeKey(s); err != nil {
		return nil, err
	}
	key, err := g.keys.Signer(ctx, s.Key)
	if err != nil {
		return nil, err
	}
	kid, err := g.keyID(s.Key, key.Public())
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(`{"alg":"`+string(s.Algorithm)+`","kid":"`+kid+`"}`)) + "." + b64.EncodeToString(text)
	method := rs256
	if s.Algorithm == SchemeES256 {
		method = es256
	}
	sig, err := method.Sign(signed, key)
	if err != nil {
		return nil, err
	}
	return []byte(signed + "." + b64.EncodeToString(sig)), nil
}

// schemeECDH seals the fields as a JWE (RFC 7516, 7.1) with direct key agreement (RFC 7518,
// 4.6): the ephemeral pair and, where the token can, the shared secret stay in the token.
func (g *Gate) schemeECDH(ctx context.Context, s Scheme, text []byte) ([]byte, error) {
	pub, ok := s.Recipient.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the recipient's key is not EC")
	}
	peer, err := pub.ECDH()
	if err != nil {
		return nil, err
	}
	iv := make([]byte, 12)
	_, _ = rand.Read(iv) // never fails (crypto/rand)
	var header string
	sealed, err := g.keys.AgreeAndSeal(ctx, hsm.Sealing{
		Peer: peer, IV: iv, Plaintext: text,
		OtherInfo: func([]byte) []byte { return concatInfo(string(jose.A256GCM), 256) },
		AAD:       func(point []byte) []byte { return []byte(ecdhHeader(point, s.RecipientID)) },
	})
	if err != nil {
		return nil, err
	}
	header = ecdhHeader(sealed.EphemeralPublicKey, s.RecipientID)
	b64 := base64.RawURLEncoding
	body, tag := sealed.Ciphertext[:len(sealed.Ciphertext)-16], sealed.Ciphertext[len(sealed.Ciphertext)-16:]
	return bytes.Join([][]byte{[]byte(header), nil, []byte(b64.EncodeToString(iv)), []byte(b64.EncodeToString(body)), []byte(b64.EncodeToString(tag))}, []byte(".")), nil
}

// ecdhHeader is the encoded protected header for an ephemeral key.
func ecdhHeader(point []byte, kid string) string {
	b64 := base64.RawURLEncoding
	h := struct {
		Algorithm  string `json:"alg"`
		Encryption string `json:"enc"`
		KeyID      string `json:"kid,omitempty"`
		Ephemeral  epk    `json:"epk"`
	}{string(jose.ECDH_ES), string(jose.A256GCM), kid, epk{"EC", "P-256", b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])}}
	b, _ := json.Marshal(h) // texts alone
	return b64.EncodeToString(b)
}

// epk is an ephemeral public key as a JWK (RFC 7518, 6.2.1).
type epk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

// point is the key that the JWK is.
func (k epk) point() (*ecdh.PublicKey, bool) {
	x, ok1 := segment(k.X)
	y, ok2 := segment(k.Y)
	if !ok1 || !ok2 || k.Type != "EC" || k.Curve != "P-256" || len(x) != 32 || len(y) != 32 {
		return nil, false
	}
	p, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x...), y...))
	return p, err == nil
}

// concatInfo is the OtherInfo of RFC 7518, 4.6.2, for an algorithm and a length in bits,
// with neither party named.
func concatInfo(algorithm string, bits uint32) []byte {
	info := binary.BigEndian.AppendUint32(nil, uint32(len(algorithm)))
	info = append(info, algorithm...)
	info = append(info, make([]byte, 8)...) // PartyUInfo and PartyVInfo, both empty
	return binary.BigEndian.AppendUint32(info, bits)
}
