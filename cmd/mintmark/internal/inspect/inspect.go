// Package inspect says what is wrong with what an app handed to Apple Wallet: the log of a
// device, or the JSON of a request or an answer. It looks for the members by their names
// wherever they stand, since a log is no JSON:
//
//	for _, f := range inspect.Text(text, leaf) {
//		fmt.Println(f)
//	}
//
// With the private key of a test leaf it decrypts, and looks at the payload too. What it
// says holds no card data: positions, lengths and names of members.
package inspect

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/secret"
)

// A Finding is one thing that was looked at.
type Finding struct {
	OK     bool
	What   string // the member, or what was done
	Found  string
	Remedy string
}

// String is one line for people, and the remedy below it.
func (f Finding) String() string {
	mark := "ok  "
	if !f.OK {
		mark = "FAIL"
	}
	line := mark + "  " + f.What + ": " + f.Found
	if f.Remedy != "" {
		line += "\n      " + f.Remedy
	}
	return line
}

// The names under which each value goes.
var (
	sealedNames = []string{"encryptedPassData", "encryptedData"}
	memberForm  = regexp.MustCompile(`["“]?\b([A-Za-z]+)["”]?\s*[=:]\s*["“]([^"”]*)["”]`)
	listForm    = regexp.MustCompile(`["“]?\b(certificates?)["”]?\s*[=:]\s*\[([^\]]*)\]`)
	quoted      = regexp.MustCompile(`["“]([^"”]*)["”]`)
	space       = regexp.MustCompile(`\s+`)
)

// report collects findings.
type report struct{ findings []Finding }

func (r *report) well(what, format string, a ...any) {
	r.findings = append(r.findings, Finding{OK: true, What: what, Found: fmt.Sprintf(format, a...)})
}

func (r *report) wrong(what, remedy, format string, a ...any) {
	r.findings = append(r.findings, Finding{What: what, Found: fmt.Sprintf(format, a...), Remedy: remedy})
}

// Text looks at a log or a JSON document. leaf is the private key of the test certificate
// that was sealed to; nil if it is not known.
func Text(text string, leaf *ecdh.PrivateKey) []Finding {
	r := &report{}
	members := map[string]string{}
	for _, m := range memberForm.FindAllStringSubmatch(text, -1) {
		if _, twice := members[m[1]]; !twice {
			members[m[1]] = space.ReplaceAllString(m[2], "") // logs break long values
		}
	}
	r.scheme(members)
	point := r.point(members)
	sealed := r.sealed(members)
	r.activation(members)
	r.nonce(members, "nonce", 4)
	r.nonce(members, "nonceSignature", 81)
	r.certificates(text)
	if leaf != nil && point != nil && sealed != nil {
		r.open(leaf, point, sealed)
	}
	if len(r.findings) == 0 {
		r.wrong("input", "Give the log of the request to Apple's broker, or the JSON of the request or the answer.", "none of the members that matter stands in it")
	}
	return r.findings
}

func (r *report) scheme(members map[string]string) {
	v, ok := members["encryptionVersion"]
	switch {
	case !ok:
	case v == "EV_ECC_v2":
		r.well("encryptionVersion", "EV_ECC_v2")
	case strings.HasPrefix(v, "EV_RSA"):
		r.wrong("encryptionVersion", "Initialise PKAddPaymentPassRequestConfiguration with the encryption scheme ECC_V2.", "an RSA scheme")
	default:
		r.wrong("encryptionVersion", "It must be EV_ECC_v2; EV_ECC_v1 is that of payment tokens.", "another scheme")
	}
}

// decode takes off one layer of Base64, and tells of a second one.
func (r *report) decode(what, value string) []byte {
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		if _, urlErr := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "=")); urlErr == nil {
			r.wrong(what, "Use standard Base64, with + and / and padding.", "Base64url, which Data(base64Encoded:) does not take")
			return nil
		}
		r.wrong(what, "Compare it with the server's answer, character by character.", "not Base64")
		return nil
	}
	if inner, err := base64.StdEncoding.DecodeString(string(b)); err == nil && len(b) >= 16 {
		r.wrong(what, "Encode once on the server, decode once with Data(base64Encoded:), and hand over the bytes.", "Base64 twice, %d bytes inside", len(inner))
		return inner
	}
	return b
}

// point looks at the ephemeral public key.
func (r *report) point(members map[string]string) *ecdh.PublicKey {
	const what = "ephemeralPublicKey"
	v, ok := members[what]
	if !ok {
		return nil
	}
	b := r.decode(what, v)
	if b == nil {
		return nil
	}
	if key, err := x509.ParsePKIXPublicKey(b); err == nil {
		ec, ok := key.(*ecdsa.PublicKey)
		if !ok || ec.Curve != elliptic.P256() {
			r.wrong(what, "It must be the 65 bytes of an uncompressed point of P-256.", "a SubjectPublicKeyInfo of another kind of key, %d bytes", len(b))
			return nil
		}
		r.wrong(what, "Send the 65 bytes of the uncompressed point, which are the last 65 of this.", "a SubjectPublicKeyInfo of %d bytes", len(b))
		if b, err = ec.Bytes(); err != nil {
			return nil
		}
	}
	p, err := ecdh.P256().NewPublicKey(b)
	switch {
	case len(b) == 33:
		r.wrong(what, "Send the uncompressed form, which begins with 04 and has 65 bytes.", "a compressed point")
	case len(b) != 65:
		r.wrong(what, "It must be the 65 bytes of an uncompressed point of P-256.", "%d bytes", len(b))
	case err != nil:
		r.wrong(what, "It must be a point of P-256; look for a byte that was lost or changed.", "65 bytes that are no point of P-256")
	default:
		r.well(what, "an uncompressed point of P-256")
		return p
	}
	return nil
}

func (r *report) sealed(members map[string]string) []byte {
	for _, what := range sealedNames {
		v, ok := members[what]
		if !ok {
			continue
		}
		b := r.decode(what, v)
		switch {
		case b == nil:
		case len(b) < 200:
			r.wrong(what, "A payload with its 81-byte nonceSignature is longer: look for text that was cut.", "%d bytes", len(b))
		default:
			r.well(what, "%d bytes, tag included", len(b))
		}
		return b
	}
	return nil
}

func (r *report) activation(members map[string]string) {
	const what = "activationData"
	v, ok := members[what]
	if !ok {
		return
	}
	b := r.decode(what, v)
	switch {
	case b == nil:
	case len(b) == 0:
		r.wrong(what, "The network needs its cryptographic OTP.", "empty")
	case bytes.HasPrefix(b, []byte("MBPAC-")):
		r.well(what, "Visa's form, %d bytes", len(b))
	case json.Valid(b):
		r.well(what, "JSON, as Mastercard's, %d bytes", len(b))
	default:
		r.well(what, "%d bytes of another form", len(b))
	}
}

func (r *report) nonce(members map[string]string, what string, length int) {
	v, ok := members[what]
	if !ok {
		return
	}
	b, err := hex.DecodeString(v)
	if err != nil {
		b, err = base64.StdEncoding.DecodeString(v)
	}
	switch {
	case err != nil:
		r.wrong(what, "Send the bytes that iOS hands over, in hex or Base64.", "neither hex nor Base64")
	case len(b) != length:
		r.wrong(what, "Send the bytes that iOS hands over, encoded once.", "%d bytes instead of %d", len(b), length)
	default:
		r.well(what, "%d bytes", length)
	}
}

// certificates looks at the chain that the app handed over.
func (r *report) certificates(text string) {
	list := listForm.FindStringSubmatch(text)
	if list == nil {
		return
	}
	var chain []*x509.Certificate
	for i, m := range quoted.FindAllStringSubmatch(list[2], -1) {
		what := fmt.Sprintf("certificates[%d]", i)
		b := r.decode(what, space.ReplaceAllString(m[1], ""))
		if b == nil {
			continue
		}
		c, err := x509.ParseCertificate(b)
		if err != nil {
			r.wrong(what, "Send each certificate's DER as iOS hands it over.", "no certificate")
			continue
		}
		chain = append(chain, c)
	}
	if len(chain) < 2 {
		r.wrong("certificates", "Send the leaf and then the sub CA.", "%d certificates", len(chain))
		return
	}
	r.chain(chain)
}

// marker is the extension of Apple's leaf for in-app provisioning.
var marker = []int{1, 2, 840, 113635, 100, 6, 39}

func (r *report) chain(chain []*x509.Certificate) {
	leaf, sub := chain[0], chain[1]
	at := slices.IndexFunc(leaf.Extensions, func(e extension) bool { return e.Id.Equal(marker) })
	switch {
	case leaf.IsCA && !sub.IsCA:
		r.wrong("certificates", "Send the leaf first.", "in the wrong order")
	case leaf.CheckSignatureFrom(sub) != nil:
		r.wrong("certificates", "Send the two that one delegate call handed over.", "the second did not issue the first")
	case at < 0:
		r.wrong("certificates", "This is no certificate for provisioning; nothing may be sealed to it.", "the leaf lacks the marker 1.2.840.113635.100.6.39")
	case !leaf.Extensions[at].Critical:
		r.wrong("certificates", "This is no certificate for provisioning; nothing may be sealed to it.", "the leaf's marker is not critical")
	default:
		r.well("certificates", "a leaf with the marker, issued by the second; valid until %s", leaf.NotAfter.Format("2006-01-02"))
	}
}

// open decrypts as Apple would, and looks at the payload.
func (r *report) open(leaf *ecdh.PrivateKey, point *ecdh.PublicKey, sealed []byte) {
	clear, err := appletest.OpenECDH(leaf, point.Bytes(), sealed)
	if err != nil {
		r.wrong("decryption", "It was sealed to another key, or the key derivation or the IV is not that of EV_ECC_v2.", "the payload does not open with this key")
		return
	}
	defer secret.Wipe(clear)
	r.well("decryption", "the payload opens with this key, %d bytes", len(clear))
	r.payload(clear)
}
