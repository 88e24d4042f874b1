package passkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"fmt"
)

// NFC is what a device sends to a reader by Apple's Value Added Services. It needs a
// pass certificate for NFC; see Preflight.
type NFC struct {
	Message                string  `json:"message,omitzero"`             // required, at most 64 bytes
	EncryptionPublicKey    string  `json:"encryptionPublicKey,omitzero"` // required: Base64 of a P-256 SubjectPublicKeyInfo
	RequiresAuthentication *bool   `json:"requiresAuthentication,omitzero"`
	Unknown                Members `json:",embed"`
}

// maxNFCMessage is what a device sends; it cuts off the rest.
const maxNFCMessage = 64

func (n *NFC) check(c *checker, p *Pass) {
	switch {
	case n.Message == "":
		c.err("/nfc/message", "is missing", "give what the reader should receive")
	case len(n.Message) > maxNFCMessage:
		c.err("/nfc/message", fmt.Sprintf("has %d bytes, and %d are the most", len(n.Message), maxNFCMessage), "shorten it")
	}
	if n.EncryptionPublicKey == "" {
		c.err("/nfc/encryptionPublicKey", "is missing", nfcKeyRemedy)
	} else if !isP256(n.EncryptionPublicKey) {
		c.err("/nfc/encryptionPublicKey", "is not Base64 of a P-256 public key", nfcKeyRemedy)
	}
	if n.RequiresAuthentication != nil && *n.RequiresAuthentication && (p.SharingProhibited == nil || !*p.SharingProhibited) {
		c.warn("/nfc/requiresAuthentication", "can be got round by sharing the pass to a device before iOS 13.1", "set sharingProhibited to true")
	}
	c.unknown("/nfc", n.Unknown)
}

const nfcKeyRemedy = "give the reader's public key: the lines between BEGIN and END PUBLIC KEY of its PEM, joined"

// isP256 reports whether s is the Base64 of a SubjectPublicKeyInfo with a P-256 key.
func isP256(s string) bool {
	der, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return false
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return false
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P256()
}
